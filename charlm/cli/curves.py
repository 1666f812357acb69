"""Curves in a terminal: learning, and how translations depend on the length of their sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from charlm.cli.console import out
from charlm.compare.axes import AXES, BY_LENGTH, LENGTH, point
from charlm.compare.rows import Point

if TYPE_CHECKING:
    from charlm.kinds._base import Band
    from charlm.score import Measure

Along = Literal["time", "tokens", "steps"]
FIELDS = {"time": "seconds", "tokens": "tokens", "steps": "step"}
COLOURS = ("blue", "orange", "green", "red", "magenta", "cyan", "gray")
HEIGHT, WIDEST = 16, 100


def by_length(bands: Mapping[str, Sequence[Band]], *, height: int = HEIGHT) -> Text:
    """How good translations are along the length of their sources: BLEU, or for single words what was exactly right."""
    import plotext

    field = "bleu" if any(band.bleu is not None for each in bands.values() for band in each) else "exact"
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(out.width, WIDEST), height)
    for number, (label, each) in enumerate(bands.items()):
        points = [xy for band in each if (xy := point(band, field))]
        if not points:  # it failed, or its targets are too short for BLEU
            continue
        x, y = zip(*points, strict=True)
        plotext.plot(x, y, label=label, marker="braille", color=COLOURS[number % len(COLOURS)])
    plotext.ylim(0, 100)
    plotext.xlabel(LENGTH)
    plotext.ylabel(BY_LENGTH[field])
    return as_text()


def as_text() -> Text:
    import plotext

    drawn = Text.from_ansi(plotext.build().rstrip())
    return drawn if out.is_terminal else Text(drawn.plain)


def curves(
    by_label: Mapping[str, Sequence[Sequence[Point]]], measure: Measure, along: Along, *, height: int = HEIGHT
) -> Text:
    """The score of every validation, one colour per label; of its trainings each its own line."""
    import plotext

    field = FIELDS[along]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(out.width, WIDEST), height)
    for number, (label, lines) in enumerate(by_label.items()):
        for seed, line in enumerate(line for line in lines if line):
            x, y = [getattr(p, field) for p in line], [p.value for p in line]
            colour = COLOURS[number % len(COLOURS)]
            plotext.plot(x, y, label=label if seed == 0 else None, marker="braille", color=colour)
    plotext.xlabel(AXES[field])
    plotext.ylabel(measure.words)
    return as_text()
