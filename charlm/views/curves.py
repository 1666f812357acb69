"""Curves in a terminal: learning curves, the quality of translations by the length of their sources, and scores by the
number of labelled texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from charlm.comparing.axes import AXES, BY_LENGTH, LENGTH, point
from charlm.comparing.counts import COMMONEST, TEXTS, by_line, commonest, counts
from charlm.comparing.rows import Row
from charlm.runs.standing import Point
from charlm.views.console import out

if TYPE_CHECKING:
    from charlm.kinds._base import Band
    from charlm.score import Measure

Along = Literal["time", "tokens", "steps"]
FIELDS = {"time": "seconds", "tokens": "tokens", "steps": "step"}
COLOURS = ("blue", "orange", "green", "red", "magenta", "cyan", "gray")
HEIGHT, WIDEST = 16, 100


def by_length(bands: Mapping[str, Sequence[Band]], *, height: int = HEIGHT) -> Text:
    """The quality of translations by source length: BLEU, or exact matches where targets are single words."""
    import plotext

    field = "bleu" if any(band.bleu is not None for of_label in bands.values() for band in of_label) else "exact"
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(out.width, WIDEST), height)
    for number, (label, of_label) in enumerate(bands.items()):
        points = [xy for band in of_label if (xy := point(band, field))]
        if not points:  # it failed, or its targets are too short for BLEU
            continue
        x, y = zip(*points, strict=True)
        plotext.plot(x, y, label=label, marker="braille", color=COLOURS[number % len(COLOURS)])
    plotext.ylim(0, 100)
    plotext.xlabel(LENGTH)
    plotext.ylabel(BY_LENGTH[field])
    return as_text()


def by_count(rows: Sequence[Row], measure: Measure, *, height: int = HEIGHT) -> Text:
    """Scores along the number of labelled texts, on a logarithmic scale: a line per model, and one of the commonest
    class."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(out.width, WIDEST), height)
    numbers, share = counts(rows), commonest(rows)
    places = [math.log10(number) for number in numbers]
    for number, (line, spots) in enumerate(by_line(rows).items()):
        if points := [(math.log10(spot.texts), spot.value) for spot in spots if spot.value is not None]:
            x, y = zip(*points, strict=True)
            plotext.plot(x, y, label=line, marker="braille", color=COLOURS[number % len(COLOURS)])
    if share is not None:
        plotext.plot(places, [share] * len(places), label=COMMONEST, marker="·", color="gray")
    plotext.xticks(places, [f"{number:,}" for number in numbers])
    plotext.xlabel(TEXTS)
    plotext.ylabel(measure.words)
    return as_text()


def as_text() -> Text:
    """The figure that plotext holds, without colours in a pipe."""
    import plotext

    figure = Text.from_ansi(plotext.build().rstrip())
    return figure if out.is_terminal else Text(figure.plain)


def curves(
    by_label: Mapping[str, Sequence[Sequence[Point]]], measure: Measure, along: Along, *, height: int = HEIGHT
) -> Text:
    """Learning curves of validation scores: a colour per label, a line per training."""
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
