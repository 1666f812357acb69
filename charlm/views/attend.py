"""Pictures of attention weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from charlm.text.characters import characters
from charlm.text.visible import brief
from charlm.views.pictures import colorless, halves, heat

if TYPE_CHECKING:
    from charlm.inside.attend import AllHeads, Attended

LONGEST = 10  # characters of a token that are shown
SMALLEST, LARGEST = 8, 24  # columns of a thumbnail
GAP = 2  # columns between two
SHADES = " ░▒▓█"


class AttentionMap:
    """Attention weights: a row per query, a column per key, in as many panels as the width of the terminal needs."""

    def __init__(self, attended: Attended) -> None:
        self.attended = attended
        self.rows, self.columns = (
            [brief(token, LONGEST) for token in tokens] for tokens in (attended.rows, attended.columns)
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        side = max(map(cell_len, self.rows)) + 1
        available = options.max_width - side
        wide = any(cell_len(c) > 1 for name in self.columns for c in characters(name))
        cell = next((c for c in (3, 2) if c * len(self.columns) <= available), 2 if wide else 1)
        head = "the mean of all heads" if self.attended.head is None else f"head {self.attended.head}"
        unit = "numbers are percent" if cell > 1 else "numbers are tenths"
        yield Text(f"attention of layer {self.attended.layer}, {head}; {unit}")
        if self.attended.both_ways:
            yield Text("a row looks at the columns on both sides of it, to know what its token means")
        elif self.attended.of_pair:
            yield Text("a row is being written while it looks at the source above")
        else:
            yield Text("a row has just read its token, and looks at the columns to guess the next one")
        panels = math.ceil(len(self.columns) / max(1, available // cell))
        step = math.ceil(len(self.columns) / panels)
        for start in range(0, len(self.columns), step):
            yield Text()
            yield from self.panel(slice(start, start + step), side, cell)

    def panel(self, part: slice, side: int, cell: int) -> RenderResult:
        """Some of the columns, `cell` wide, beside the tokens of the rows, `side` wide."""
        names = [characters(name) for name in self.columns[part]]
        height = max(map(len, names))
        for line in zip(*([" "] * (height - len(name)) + name for name in names), strict=True):  # vertical text
            yield Text(" " * side + "".join(" " * (cell - cell_len(c)) + c for c in line), no_wrap=True)
        for name, weights in zip(self.rows, self.attended.weights, strict=True):
            if not weights[part]:
                continue  # it comes before all of these columns
            row = Text(" " * (side - 1 - cell_len(name)) + name + " ", no_wrap=True)
            for weight in weights[part]:
                row.append(number(weight, cell), heat(weight**0.5))  # the root makes small weights visible
            yield row


def number(weight: float, cell: int) -> str:
    """Percent in two or three columns, tenths in one; nothing for what rounds to 0."""
    parts = 100 if cell > 1 else 10
    return str(min(int(weight * parts + 0.5), 10**cell - 1) or "").rjust(cell)


class Thumbnails:
    """A small picture for each head, without numbers: a line of them for each layer, or several if there are many."""

    def __init__(self, heads: AllHeads) -> None:
        self.heads = heads

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layers, count, rows, columns = self.heads.weights.shape
        side = len(f"layer {layers} ")
        width = max(SMALLEST, min((options.max_width - side) // count - GAP, LARGEST))
        at_once = max(1, (options.max_width - side) // (width + GAP))
        yield Text(f"attention of every head: {rows} tokens, one a row, look at {columns} columns")
        if max(rows, columns) > width:
            yield Text("a square is the highest weight of several tokens; --layer and --head show all")
        draw = shaded if colorless(console) else coloured
        squares = self.heads.thumbnails(width).tolist()  # L layers of H heads of t rows of s
        for start in range(0, count, at_once):
            names = (f"head {n + 1:<{width + GAP - 5}}" for n in range(start, min(start + at_once, count)))
            yield Text("\n" + " " * side + "".join(names), no_wrap=True)
            for n, heads in enumerate(squares, 1):
                for top in range(0, len(heads[0]), 2):
                    line = Text(("" if top else f"layer {n}").ljust(side), no_wrap=True)
                    for head in heads[start : start + at_once]:
                        draw(line, *head[top : top + 2])
                        line.append(" " * (width + GAP - len(head[top])))
                    yield line
                yield Text()


def coloured(line: Text, upper: list[float], lower: list[float] | None = None) -> None:
    """Add two rows of squares, by the roots of their weights: these make small ones visible."""
    for column, weight in enumerate(upper):
        line.append("▀", halves(weight**0.5, lower[column] ** 0.5 if lower else None))


def shaded(line: Text, upper: list[float], lower: Sequence[float] = ()) -> None:
    """The same without colours: the darker, the higher the higher of two weights."""
    for pair in zip_longest(upper, lower, fillvalue=0.0):
        line.append(SHADES[round(max(pair) ** 0.5 * (len(SHADES) - 1))])
