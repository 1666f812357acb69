"""`charlm experts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import Encoding, Json, OtherText, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import other_text
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.visible import visible
from charlm.views.console import table, watch
from charlm.views.pictures import heat

if TYPE_CHECKING:
    from charlm.inside.experts import Load

CELL = 4  # columns of an expert in the picture


@with_settings(OPENING, without={"quantize"})
def experts(
    run: Run = "last",
    text: OtherText = None,
    encoding: Encoding = None,
    top: Annotated[int, typer.Option(help="tokens to show of each expert", min=1, max=1000)] = 8,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    *,
    given: dict[str, Any],
) -> None:
    path = folder.find(run, kind="text")
    other = other_text(text, encoding)
    from charlm.inside.experts import load

    with errors_name_run(run, path):
        loaded = watch(load(path, text=other, top=top, opening=take(Opening, given)))
    present(LoadMap(loaded), loaded.to_json, json=json, html=html, svg=svg, png=png)


class LoadMap:
    """The load of each expert: a row per layer, a column per expert; and what each reads most, in a table."""

    def __init__(self, loaded: Load) -> None:
        self.loaded = loaded

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layers, tokens, of = self.loaded.layers, self.loaded.tokens, self.loaded.of
        read = f"{tokens:,}" if tokens == of else f"the first {tokens:,} of {of:,}"
        count = max(map(len, layers.values()))
        side = len(f"layer {max(layers)}") + 1
        even = 100 / count
        yield Text(f"load of each expert in percent of {read} tokens; evenly shared it is {even:.3g}")
        at_once = max(1, (options.max_width - side) // CELL)
        for first in range(0, count, at_once):
            yield Text()
            shown = range(first, min(first + at_once, count))
            yield Text(" " * side + "".join(f"{number + 1:>{CELL}}" for number in shown), no_wrap=True)
            for layer, experts in layers.items():
                row = Text(f"layer {layer}".ljust(side), no_wrap=True)
                for number in shown:
                    percent = f"{100 * experts[number].load:.0f}".rjust(CELL)
                    row.append(percent, heat(experts[number].load * count / 2))  # red: twice the even share
                yield row
        yield Text()
        reads = table(">layer", ">expert", "its most frequent tokens, and the share of each that it gets")
        for layer, experts in layers.items():
            for number, expert in enumerate(experts, 1):
                most = "  ".join(f"{visible(share.token)} {share.of_all:.0%}" for share in expert.tokens)
                reads.add_row(str(layer), str(number), Text(most))
        yield reads
