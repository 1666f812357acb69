"""Colours for numbers, and views as HTML, SVG, PNG and plain text."""

from __future__ import annotations

import re
from io import StringIO

from rich.color import Color
from rich.console import Console, RenderableType
from rich.style import Style

from charlm.errors import SettingsError
from charlm.views.console import PLAIN

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
FRAGMENT = '<pre style="font-family: ui-monospace, monospace; overflow-x: auto"><code>{code}</code></pre>'
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


def record(view: RenderableType, width: int = WIDTH) -> Console:
    """A console that has printed the view, to be exported."""
    recorder = Console(
        record=True,
        width=width,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        **PLAIN,
    )
    recorder.print(view, markup=False)
    return recorder


def as_html(view: RenderableType) -> bytes:
    return record(view).export_html(code_format=PAGE, inline_styles=True).encode()


def as_fragment(view: RenderableType, width: int = WIDTH) -> str:
    """HTML to be put into a page, in which all that is text is escaped."""
    return record(view, width).export_html(code_format=FRAGMENT, inline_styles=True)


def as_text(view: RenderableType, width: int = WIDTH) -> str:
    """Plain text without colours, for which views have bars and shades."""
    plain = Console(width=width, file=StringIO(), color_system=None, no_color=True, **PLAIN)
    with plain.capture() as captured:
        plain.print(view)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().split("\n"))


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
        raise SettingsError('a PNG needs an extra: pip install -e ".[report]"; SVG and HTML do not') from None
    return bytes(vl_convert.svg_to_png(as_svg(view).decode(), scale=2))
