"""What a model would guess after each of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.table import Table
from rich.text import Text

from charlm.text.visible import brief
from charlm.views.console import BARS, table
from charlm.views.pictures import colorless, heat

if TYPE_CHECKING:
    from charlm.inside.lens import Layer, Lens

LONGEST = 8  # characters of a token that are shown


class GuessTable:
    """A row per layer and a column per token, in as many panels as the width needs; then what each layer costs."""

    def __init__(self, lens: Lens) -> None:
        self.lens = lens
        self.came = [*lens.following, *[""] * (len(lens.tokens) - len(lens.following))]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lens, bars = self.lens, colorless(console)
        side = max(len(layer.name) for layer in lens.layers) + 1
        tokens = chain(lens.tokens, *(layer.guesses for layer in lens.layers))
        cell = 1 + max(cell_len(shown(token)) for token in tokens)
        yield Text("after each layer the likeliest next token, underlined if it came")
        yield Text("a bar below is the probability" if bars else "the redder, the more probable")
        step = max(1, (options.max_width - side) // cell)
        for start in range(0, len(lens.tokens), step):
            part = slice(start, start + step)
            yield Text()
            yield plain("read", lens.tokens[part], side, cell)
            for layer in lens.layers:
                yield from self.drawn(layer, part, side, cell, bars)
            yield plain("came", self.came[part], side, cell)
        yield Text()
        yield costs(lens.layers)

    def drawn(self, layer: Layer, part: slice, side: int, cell: int, bars: bool) -> Iterator[Text]:
        """Some of a layer's guesses, each on the colour of its probability, and perhaps above a bar."""
        row = Text(layer.name.rjust(side - 1) + " ", no_wrap=True)
        probabilities = layer.probabilities[part]
        for guess, right, probability in zip(layer.guesses[part], layer.right[part], probabilities, strict=True):
            row.append(shown(guess), heat(probability) + Style(underline=right))
            row.append(" " * (cell - cell_len(shown(guess))), heat(probability))
        yield row
        if bars:
            heights = [BARS[round(probability * (len(BARS) - 1))] for probability in probabilities]
            yield Text(" " * side + "".join(bar * (cell - 1) + " " for bar in heights), no_wrap=True)


def shown(token: str) -> str:
    return brief(token, LONGEST)


def plain(name: str, tokens: list[str], side: int, cell: int) -> Text:
    """A row of tokens, `cell` wide each, behind a name that ends at `side`."""
    texts = (shown(token) + " " * (cell - cell_len(shown(token))) for token in tokens)
    return Text(f"{name:>{side - 1}} {''.join(texts)}", "dim", no_wrap=True)


def costs(layers: list[Layer]) -> Table:
    means = table("", ">bits per byte", ">KL to the last layer, bits per token")
    for layer in layers:
        means.add_row(layer.name, f"{layer.bits_per_byte:.3f}", f"{layer.divergence:.3f}")
    return means
