"""Colours for numbers, and printing and saving of views."""

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

from charlm.cli import console
from charlm.errors import SettingsError

Html = Annotated[Path | None, typer.Option(help="save the picture as a web page", show_default=False)]
Svg = Annotated[Path | None, typer.Option(help="save the picture as SVG", show_default=False)]
Png = Annotated[Path | None, typer.Option(help="save the picture as PNG (extra: report)", show_default=False)]

WIDTH = 100  # columns of a saved picture, whatever the terminal
COLD, MIDDLE, HOT = (
    (33, 102, 172),
    (247, 247, 247),
    (178, 24, 43),
)  # blue to red, safe for the colour-blind

PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>charlm</title><style>{stylesheet} body {{ color: {foreground}; background: {background}; }}</style>
<pre style="font-family: ui-monospace, monospace; overflow-x: auto"><code>{code}</code></pre></html>
"""
FONTS = re.compile(r"@font-face\s*\{[^}]*\}")
HALVES = re.compile(r'<text (class="\S+" x="\S+") y="(\S+)" textLength="(\S+)" clip-path="\S+">▀+</text>')
ABOVE, HALF = 18.5, 12.3  # of rich's SVG: a row begins so far above its baseline, and half of its height


def heat(share: float) -> Style:
    """Nearly white at 0, red at 1: for sizes, such as surprise or attention."""
    return background(mix(MIDDLE, HOT, min(max(share, 0.0), 1.0)))


def tilt(value: float) -> Style:
    """Blue at -1, red at 1: for signed values, such as a cell state or a difference."""
    value = min(max(value, -1.0), 1.0)
    return background(mix(MIDDLE, HOT if value > 0 else COLD, abs(value)))


def halves(upper: float, lower: float | None) -> Style:
    """Of the character ▀, as two squares coloured as by `heat`; the lower one is left as it is for None."""
    colors = [None if x is None else Color.from_rgb(*mix(MIDDLE, HOT, min(max(x, 0.0), 1.0))) for x in (upper, lower)]
    return Style(color=colors[0], bgcolor=colors[1])


def colorless(console: Console) -> bool:
    """Whether a view must say by characters what it would say by colours."""
    return bool(console.no_color) or console.color_system is None


def mix(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def background(rgb: tuple[int, int, int]) -> Style:
    dark = sum(rgb) < 330
    return Style(color="#ffffff" if dark else "#000000", bgcolor=Color.from_rgb(*rgb))


def present(
    view: RenderableType,
    value: Callable[[], dict[str, Any]],
    *,
    json: bool,
    html: Path | None = None,
    svg: Path | None = None,
    png: Path | None = None,
) -> None:
    """Print `view`, or what `value` returns as JSON, and save the view to the paths that are given."""
    for path, make in ((html, as_html), (svg, as_svg), (png, as_png)):
        if path is not None:
            save(path, make(view))
    if json:
        print(jsonlib.dumps(value()))
    else:
        console.show(view)


def save_as_named(path: Path, view: RenderableType, value: Callable[[], dict[str, Any]]) -> None:
    """Save in the format of the file's ending. Raises `SettingsError` for other endings."""
    formats: dict[str, Callable[[RenderableType], bytes]] = {
        ".html": as_html,
        ".svg": as_svg,
        ".png": as_png,
        ".json": lambda _: jsonlib.dumps(value()).encode(),
    }
    if path.suffix.lower() not in formats:
        raise SettingsError(f"{path} names no kind of picture; it may end in {', '.join(formats)}")
    save(path, formats[path.suffix.lower()](view))


def save(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; name another file") from None
    console.err.print(f"saved {path}", markup=False)


def record(view: RenderableType) -> Console:
    """A console that has printed the view, to be exported."""
    recorder = Console(
        record=True,
        width=WIDTH,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        emoji=False,
    )
    recorder.print(view, markup=False)
    return recorder


def as_html(view: RenderableType) -> bytes:
    return record(view).export_html(code_format=PAGE, inline_styles=True).encode()


def as_svg(view: RenderableType) -> bytes:
    text = record(view).export_svg(title="charlm")
    text = FONTS.sub("", text)  # rich refers to fonts on the web: a picture must not need them
    return HALVES.sub(upper_half, text).encode()


def upper_half(match: re.Match[str]) -> str:
    """A rectangle for a text of ▀, which fonts draw higher or lower than half of a row."""
    place, baseline, width = match.groups()
    y = float(baseline) - ABOVE
    return f'<rect {place} y="{y:g}" width="{width}" height="{HALF}" shape-rendering="crispEdges"/>'


def as_png(view: RenderableType) -> bytes:
    try:
        import vl_convert
    except ImportError:
        raise SettingsError('a PNG needs an extra: pip install "charlm[report]"; SVG and HTML do not') from None
    return bytes(vl_convert.svg_to_png(as_svg(view).decode(), scale=2))
