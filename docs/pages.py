"""The site's pages that stand outside of docs/, for MkDocs: the README is its home."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "README.md": "index.md",
    "charlm/exporting/beside/README.md": "onnx.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        text = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=LINK.sub(within_site, text)))
    return files


def within_site(link: re.Match[str]) -> str:
    """A link from the repository's root, as one between pages; to what is no page, its text alone."""
    picture, text, path, anchor = link.groups()
    page = PAGES.get(path, path.removeprefix("docs/"))
    if path in PAGES or path.startswith("docs/"):
        return f"{picture}[{text}]({page}{anchor or ''})"
    return text
