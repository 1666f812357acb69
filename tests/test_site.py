"""The site of the docs: it builds without a warning, and a page fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class Fetched(HTMLParser):
    """What a browser fetches for a page without being asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag != "a" and given.get("rel") != "canonical":
            self.addresses += [value for name in ("src", "href", "srcset") if (value := given.get(name))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", ROOT / "mkdocs.yml"]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run([*build, "--site-dir", folder], capture_output=True, text=True, cwd=folder, env=quiet)
    assert (built.returncode, built.stdout) == (0, ""), built.stderr
    return folder


def test_every_file_of_the_docs_is_a_page_and_so_is_the_readme(site: Path) -> None:
    pages = {path.stem for path in site.glob("*.html")}
    elsewhere = {"index", "onnx", "contributing", "changelog", "404"}
    assert pages == elsewhere | {path.stem for path in (ROOT / "docs").glob("*.md")}
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="results.html#inference-made-smaller"' in home
    assert 'src="compare.png"' in home


def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert len(parser.addresses) > 3
        assert [address for address in parser.addresses if re.match(r"(https?:)?//", address)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style
