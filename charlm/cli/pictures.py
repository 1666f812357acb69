"""What all views share: colours for numbers, and one way to show, to print as JSON, and to save."""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.color import Color
from rich.console import Console, RenderableType
from rich.style import Style
from rich.table import Table

from charlm.cli import console
from charlm.errors import SettingsError

Html = Annotated[Path | None, typer.Option(help="save the picture as a web page", show_default=False)]
Svg = Annotated[Path | None, typer.Option(help="save the picture as SVG", show_default=False)]
Png = Annotated[Path | None, typer.Option(help="save the picture as PNG (extra: report)", show_default=False)]

WIDTH = 100  # columns of a saved picture, whatever the terminal
COLD, MIDDLE, HOT = (33, 102, 172), (247, 247, 247), (178, 24, 43)  # blue to red, told apart by the colour-blind too

PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>charlm</title><style>{stylesheet} body {{ color: {foreground}; background: {background}; }}</style>
<pre style="font-family: ui-monospace, monospace; overflow-x: auto"><code>{code}</code></pre></html>
"""
FONTS = re.compile(r"@font-face\s*\{[^}]*\}")


def heat(share: float) -> Style:
    """Nothing at 0, red at 1: for sizes, such as surprise or attention."""
    return background(mixed(MIDDLE, HOT, min(max(share, 0.0), 1.0)))


def tilt(value: float) -> Style:
    """Blue at -1, red at 1: for what has a sign, such as a cell or a difference."""
    value = min(max(value, -1.0), 1.0)
    return background(mixed(MIDDLE, HOT if value > 0 else COLD, abs(value)))


def mixed(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def background(rgb: tuple[int, int, int]) -> Style:
    dark = sum(rgb) < 330
    return Style(color="#ffffff" if dark else "#000000", bgcolor=Color.from_rgb(*rgb))


def present(
    view: RenderableType,
    value: dict[str, Any],
    *,
    json: bool,
    html: Path | None = None,
    svg: Path | None = None,
    png: Path | None = None,
) -> None:
    """Print `view`, or `value` as JSON, and save the view where that was asked for."""
    for path, make in ((html, as_html), (svg, as_svg), (png, as_png)):
        if path is not None:
            save(path, make(view))
    if json:
        print(jsonlib.dumps(value))
    elif isinstance(view, Table):
        console.show(view)
    else:
        console.out.print(view, markup=False)


def save_as_named(path: Path, view: RenderableType, value: dict[str, Any]) -> None:
    """Save in the form that the file's name asks for. Raises `SettingsError` for a name that asks for none."""
    forms: dict[str, Callable[[RenderableType], bytes]] = {
        ".html": as_html,
        ".svg": as_svg,
        ".png": as_png,
        ".json": lambda _: jsonlib.dumps(value).encode(),
    }
    if path.suffix.lower() not in forms:
        raise SettingsError(f"{path} names no kind of picture; it may end in {', '.join(forms)}")
    save(path, forms[path.suffix.lower()](view))


def save(path: Path, what: bytes) -> None:
    try:
        path.write_bytes(what)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; name another file") from None
    console.err.print(f"saved {path}", markup=False)


def drawn(view: RenderableType) -> Console:
    recorder = Console(
        record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    recorder.print(view, markup=False)
    return recorder


def as_html(view: RenderableType) -> bytes:
    return drawn(view).export_html(code_format=PAGE, inline_styles=True).encode()


def as_svg(view: RenderableType) -> bytes:
    text = drawn(view).export_svg(title="charlm")
    text = FONTS.sub("", text)  # rich names fonts on the web: a picture should need nothing from there
    return text.encode()


def as_png(view: RenderableType) -> bytes:
    try:
        import vl_convert
    except ImportError:
        raise SettingsError('a PNG needs an extra: pip install "charlm[report]"; SVG and HTML do not') from None
    return bytes(vl_convert.svg_to_png(as_svg(view).decode(), scale=2))
