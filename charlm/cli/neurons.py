"""`charlm neurons`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from charlm.cli.console import BARS
from charlm.cli.opened import OPENING, opened
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, heat, present, tilt
from charlm.cli.texts import PIPED, read_words, refuse_file, refuse_idle
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.characters import characters, continues
from charlm.text.visible import visible

if TYPE_CHECKING:
    from charlm.inside.neurons import Neurons, Unit

Feature = Literal["quote", "bracket", "newline", "capital", "linelength"]
Line = list[tuple[str, float]]
SHOWN = 600  # tokens of the text that are drawn for each unit


@with_settings(OPENING, without={"quantize"})
def neurons(
    run: Run = "last",
    *,
    text: Annotated[str, typer.Option(help="text to be read; - reads standard input")],
    encoding: Encoding = None,
    layer: Annotated[int | None, typer.Option(help="from 1 \\[default: all]", show_default=False)] = None,
    unit: Annotated[int | None, typer.Option(help="from 1 \\[default: the most telling]", show_default=False)] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            help="input, forget, output, cell, reset, update or hidden \\[default: cell, else hidden]",
            show_default=False,
        ),
    ] = None,
    find: Annotated[Feature | None, typer.Option(help="look for units that follow this", show_default=False)] = None,
    top: Annotated[int, typer.Option(help="units to show", min=1, max=1000)] = 5,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    given: dict[str, Any],
) -> None:
    refuse_file("--text", text)
    refuse_idle(encoding, read=text == PIPED, where="--text -")
    text, path = read_words("--text", text, encoding), folder.find(run, kind="text")
    from charlm.inside.neurons import neurons as look

    with opened(run, path, take(Opening, given)) as writer:
        found = look(writer, text, layer=layer, unit=unit, gate=gate, find=find, top=top)
    present(Traces(found), found.to_json(), json=json, html=html, svg=svg, png=png)


class Traces:
    """The text once for each unit, coloured by what the unit holds; where there are no colours, bars stand below it."""

    def __init__(self, found: Neurons) -> None:
        self.found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from charlm.inside.neurons import FEATURES, excerpt

        found, part = self.found, excerpt(self.found, SHOWN)
        signed = found.gate in ("cell", "hidden")
        style, low = (tilt, -1) if signed else (heat, 0)
        bars = bool(console.no_color) or console.color_system is None
        scale = "blue is -1, white 0, red 1" if signed else "white is 0, red 1"
        scale = f"a bar below reaches from {low} to 1" if bars else scale
        yield Text(f"{found.gate}: its value after each token; {scale}")
        if len(found.tokens) > SHOWN:
            yield Text(f"tokens {part.start + 1} to {part.stop} of {len(found.tokens)}; --json has all")
        width = options.max_width
        if found.find and found.feature:
            most = max(found.feature)
            yield Text(f"\nwhat was looked for: {FEATURES[found.find][1]}", "bold")
            yield from painted(lines(found.tokens[part], [v / most for v in found.feature[part]], width), heat, 0, bars)
        for unit in found.units:
            yield Text("\n" + title(unit), "bold")
            yield from painted(lines(found.tokens[part], unit.values[part], width), style, low, bars)


def title(unit: Unit) -> str:
    name = f"layer {unit.layer}, unit {unit.unit}: from {min(unit.values):.2f} to {max(unit.values):.2f}"
    return name if unit.correlation is None else f"{name}, correlation {unit.correlation:+.2f}"


def lines(tokens: list[str], values: list[float], width: int) -> Iterator[Line]:
    """Characters with their last token's value, cut after each newline and where a line is full."""
    line: Line = []
    used = 0
    for token, value in zip(tokens, values, strict=True):
        for c in characters(token):
            if line and continues(c[0]):  # a token begins with a mark
                line[-1] = line[-1][0] + c, value
                continue
            shown = visible(c, space=" ")
            if used + cell_len(shown) > width:
                yield line
                line, used = [], 0
            line.append((shown, value))
            used += max(1, cell_len(shown))
            if c == "\n":
                yield line
                line, used = [], 0
    if line:
        yield line


def painted(drawn: Iterator[Line], style: Callable[[float], Style], low: int, bars: bool) -> Iterator[Text]:
    """Each character on the colour of its value, which is from `low` to 1; and bars below, where asked for."""
    for line in drawn:
        yield Text.assemble(*[(c, style(value)) for c, value in line], no_wrap=True)
        if bars:
            heights = [round((value - low) / (1 - low) * (len(BARS) - 1)) for _, value in line]
            yield Text("".join(BARS[h] * cell_len(c) for h, (c, _) in zip(heights, line, strict=True)), no_wrap=True)
