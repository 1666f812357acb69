"""Line charts as SVG, which a notebook or a page shows without a script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 24, 40  # margins, for numbers and names
COLOURS = ("#2166ac", "#e08214", "#4d9221", "#b2182b", "#8073ac", "#01665e", "#888888")


def line_chart(lines: Mapping[str, Sequence[Points]], x_name: str, y_name: str) -> str:
    """An `<svg>` element: a colour and a name for each key, with one line or several. Values that are no finite
    numbers are left out; an empty text if none is left."""
    finite = {
        name: [[(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for points in several]
        for name, several in lines.items()
    }
    every = [point for several in finite.values() for points in several for point in points]
    if not every:
        return ""
    (left, right), (low, high) = (span([point[axis] for point in every]) for axis in (0, 1))

    def place(x: float, y: float) -> str:
        across, up = (x - left) / (right - left), (y - low) / (high - low)
        return f"{LEFT + across * (WIDTH - LEFT - RIGHT):.1f},{HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [axes(left, right, low, high, x_name, y_name)]
    names = legend(list(finite))
    for number, (name, several) in enumerate(finite.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(label(*names[number], name, colour=colour))
        for points in several:
            path = " ".join(place(x, y) for x, y in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            if len(points) == 1:
                x, y = path.split(",")
                parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
    above = names[-1][1] - names[0][1]  # more rows of names, above the first one's place
    parts = [f'<g transform="translate(0 {above})">', *parts, "</g>"]
    size = f'width="{WIDTH}" height="{HEIGHT + above}" viewBox="0 0 {WIDTH} {HEIGHT + above}"'
    style = "max-width: 100%; font: 11px sans-serif; fill: currentColor"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}">{"".join(parts)}</svg>'


def legend(names: Sequence[str]) -> list[tuple[int, int]]:
    """Where each name begins: side by side, in as many rows as they need; the last one is just above the frame."""
    places, x, row = list[tuple[int, int]](), LEFT + 4, 0
    for name in names:
        width = max(90, 7 * len(name) + 20)
        if x + width > WIDTH and x > LEFT + 4:
            x, row = LEFT + 4, row + 1
        places.append((x, row))
        x += width
    return [(x, 14 - 14 * (row - place)) for x, place in places]


def span(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest, and never nothing."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def axes(left: float, right: float, low: float, high: float, x_name: str, y_name: str) -> str:
    """A frame, with the first and last number of each axis and its name."""
    bottom, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    frame = f'<path d="M{LEFT},{TOP} V{bottom} H{end}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
    numbers = [
        label(LEFT - 6, TOP + 4, f"{high:.4g}", anchor="end"),
        label(LEFT - 6, bottom, f"{low:.4g}", anchor="end"),
        label(LEFT, bottom + 15, f"{left:.4g}"),
        label(end, bottom + 15, f"{right:.4g}", anchor="end"),
    ]
    names = [
        label((LEFT + end) / 2, HEIGHT - 8, x_name, anchor="middle"),
        f'<g transform="rotate(-90 14 {HEIGHT / 2})">{label(14, HEIGHT / 2, y_name, anchor="middle")}</g>',
    ]
    return frame + "".join([*numbers, *names])


def label(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "currentColor") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
