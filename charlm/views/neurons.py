"""A text, coloured by what single units say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from charlm.text.characters import characters, continues
from charlm.text.visible import visible
from charlm.views.console import BARS
from charlm.views.pictures import colorless, heat, tilt

if TYPE_CHECKING:
    from charlm.inside.neurons import Neurons, Unit
Line = list[tuple[str, float]]
EXCERPT = 600  # tokens of the text that are drawn for every unit


class Traces:
    """The text once for every unit, coloured by the unit's activations; without colours, with bars below it."""

    def __init__(self, neurons: Neurons) -> None:
        self.neurons = neurons

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from charlm.inside.neurons import FEATURES, excerpt

        neurons, part = self.neurons, excerpt(self.neurons, EXCERPT)
        signed = neurons.gate in ("cell", "hidden")
        style, low = (tilt, -1) if signed else (heat, 0)
        bars = colorless(console)
        scale = "blue is -1, white 0, red 1" if signed else "white is 0, red 1"
        scale = f"a bar below reaches from {low} to 1" if bars else scale
        yield Text(f"{neurons.gate}: its value after each token; {scale}")
        if len(neurons.tokens) > EXCERPT:
            yield Text(f"tokens {part.start + 1} to {part.stop} of {len(neurons.tokens)}; --json has all")
        width = options.max_width
        if neurons.find and neurons.feature:
            highest = max(neurons.feature)
            shares = [v / highest for v in neurons.feature[part]]
            yield Text(f"\nwhat was looked for: {FEATURES[neurons.find][1]}", "bold")
            yield from paint(lines(neurons.tokens[part], shares, width), heat, 0, bars)
        for unit in neurons.units:
            yield Text("\n" + title(unit), "bold")
            yield from paint(lines(neurons.tokens[part], unit.values[part], width), style, low, bars)


def title(unit: Unit) -> str:
    name = f"layer {unit.layer}, unit {unit.unit}: from {min(unit.values):.2f} to {max(unit.values):.2f}"
    return name if unit.correlation is None else f"{name}, correlation {unit.correlation:+.2f}"


def lines(tokens: list[str], values: list[float], width: int) -> Iterator[Line]:
    """(character, value of its last token) in lines, which end after a newline or at `width` columns."""
    line: Line = []
    used = 0
    for token, value in zip(tokens, values, strict=True):
        for c in characters(token):
            if line and continues(c[0]):  # a token that begins with a combining mark
                line[-1] = line[-1][0] + c, value
                continue
            glyph = visible(c, space=" ")
            if used + cell_len(glyph) > width:
                yield line
                line, used = [], 0
            line.append((glyph, value))
            used += max(1, cell_len(glyph))
            if c == "\n":
                yield line
                line, used = [], 0
    if line:
        yield line


def paint(lines: Iterator[Line], style: Callable[[float], Style], low: int, bars: bool) -> Iterator[Text]:
    """Every character on the colour of its value, from `low` to 1, and with `bars` a bar below it."""
    for line in lines:
        yield Text.assemble(*[(c, style(value)) for c, value in line], no_wrap=True)
        if bars:
            heights = [round((value - low) / (1 - low) * (len(BARS) - 1)) for _, value in line]
            yield Text("".join(BARS[h] * cell_len(c) for h, (c, _) in zip(heights, line, strict=True)), no_wrap=True)
