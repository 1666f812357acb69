"""Learning curves in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.text import Text

from charlm.cli.console import out
from charlm.compare.rows import Point

Along = Literal["time", "tokens", "steps"]
AXES: dict[str, tuple[str, str]] = {
    "time": ("seconds", "seconds of training"),
    "tokens": ("tokens", "tokens read"),
    "steps": ("step", "optimizer steps"),
}
COLOURS = ("blue", "orange", "green", "red", "magenta", "cyan", "gray")
HEIGHT, WIDEST = 16, 100


def curves(by_label: Mapping[str, Sequence[Sequence[Point]]], along: Along, *, height: int = HEIGHT) -> Text:
    """Bits per byte of every validation, one colour per label; of its trainings each its own line."""
    import plotext

    field, title = AXES[along]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(out.width, WIDEST), height)
    for number, (label, lines) in enumerate(by_label.items()):
        for seed, line in enumerate(line for line in lines if line):
            x, y = [getattr(point, field) for point in line], [point.bits_per_byte for point in line]
            colour = COLOURS[number % len(COLOURS)]
            plotext.plot(x, y, label=label if seed == 0 else None, marker="braille", color=colour)
    plotext.xlabel(title)
    plotext.ylabel("bits per byte")
    drawn = Text.from_ansi(plotext.build().rstrip())
    return drawn if out.is_terminal else Text(drawn.plain)
