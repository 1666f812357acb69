"""The report in a real browser: Chromium, headless, without a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charlm.comparing import report
from charlm.comparing.cells import lines, marked
from charlm.comparing.run import Comparison

Typed = Callable[..., tuple[int, str, str]]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

pytest.importorskip("vl_convert")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def file(compared: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.page(compared), encoding="utf-8")
    return path


@pytest.fixture
def page(chromium: Any, file: Path) -> Iterator[Any]:
    """The page, drawn; whatever the browser complains about and whatever it asks the network for is an error."""
    opened = chromium.new_page(viewport=DESK)
    complaints: list[str] = []
    opened.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
    )
    opened.goto(file.as_uri())
    opened.wait_for_selector("body[data-drawn=yes]", timeout=20_000)
    yield opened
    opened.close()
    assert complaints == []


def test_the_tables_numbers_are_those_of_the_comparison(page: Any, compared: Comparison) -> None:
    titles, shown = lines(compared)
    table = page.locator("#comparison")
    assert table.locator("thead th").all_inner_texts() == titles
    for row, line in zip(table.locator("tbody tr").all(), shown, strict=True):
        cells = row.locator("th, td").all_inner_texts()
        expected = marked(line) if len(line.cells) > 1 else [*line.cells, f"failed: {line.note}"]
        assert [cell.strip() for cell in cells] == expected
    told = compared.to_dict()
    best = min(row["bits_per_byte"] for row in told["rows"] if row["bits_per_byte"] is not None)
    assert f"{best:.4f}*" in table.inner_text()
    assert page.locator("#verdict").inner_text() == told["verdict"]


def test_hovering_a_point_of_a_curve_tells_its_numbers(page: Any) -> None:
    point = page.locator("#curve-1 .mark-symbol path").first
    point.hover(force=True)  # another may lie upon it
    page.wait_for_selector("#vg-tooltip-element.visible", timeout=5000)
    said = page.locator("#vg-tooltip-element").inner_text()
    assert re.search(r"model\s+(lstm|transformer)", said)
    assert "bits_per_byte" in said


def test_samples_surprise_and_attention_are_there(page: Any, compared: Comparison) -> None:
    text = page.locator("main").inner_text()
    for label in ("lstm:hidden_size=16", "transformer:hidden_size=16:layers=1"):
        assert text.count(label) >= 3
    marks = page.locator(".heat").first.locator("b")
    assert marks.count() == len(compared.passage)
    assert re.fullmatch(r"\d+\.\d\d bits", marks.first.get_attribute("title"))
    page.locator("#map-1 .mark-rect path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible", timeout=5000)
    assert "weight" in page.locator("#vg-tooltip-element").inner_text()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (DESK, "dark")])
def test_it_fits_a_phone_and_a_desk_in_light_and_dark(page: Any, size: dict[str, int], scheme: str) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.wait_for_selector("body[data-drawn=yes]", timeout=20_000)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(23, 23, 27)")
    assert page.locator("#curve-1 svg").bounding_box()["width"] <= size["width"]
    assert len(page.screenshot(full_page=True)) > 10_000


def test_the_keyboard_reaches_the_tables_and_paper_is_white(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-labelledby')") == "table-title"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_what_a_model_writes_cannot_become_part_of_the_page(
    compared: Comparison, chromium: Any, tmp_path: Path
) -> None:
    wild = replace(compared, rows=compared.rows[:1], samples={"<b>x": "</pre><script>alert(1)</script>"})
    path = tmp_path / "wild.html"
    path.write_text(report.page(wild), encoding="utf-8")
    opened = chromium.new_page()
    asked: list[str] = []
    opened.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    opened.goto(path.as_uri())
    opened.wait_for_selector("body[data-drawn=yes]", timeout=20_000)
    assert asked == []
    assert "</pre><script>alert(1)</script>" in opened.locator("main").inner_text()
    opened.close()


def test_the_command_saves_it(typed: Typed, verses: Path, trained: Path) -> None:
    assert typed("train", verses, "--arch", "rnn", "--steps", "5", "--hidden-size", "8", "--quiet")[0] == 0
    code, _, error = typed("compare", trained, "verses-rnn", "--html", "report.html")
    assert code == 0, error
    assert "saved report.html" in error
    assert "<h1>verses" in Path("report.html").read_text()
    code, _, error = typed("compare", trained, "verses-rnn", "--html", "no/folder/report.html")
    assert code == 2
    assert "there is no folder no/folder" in error  # said before anything is trained
    Path("taken").mkdir()
    code, out, error = typed("compare", trained, "verses-rnn", "--html", "taken")
    assert code == 2
    assert "bits/byte" in out  # what was measured is told all the same
    assert "cannot be written" in error


def test_a_model_of_which_one_seed_failed_says_so(compared: Comparison) -> None:
    unlucky = replace(compared.rows[0], failures=["the memory is full"])
    assert "1 of 3 failed: the memory is full" in report.page(replace(compared, rows=[unlucky]))
