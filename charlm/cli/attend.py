"""`charlm attend`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, heat, present
from charlm.cli.texts import PIPED, read_words, refuse_file, refuse_unused
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.characters import characters
from charlm.text.visible import visible

if TYPE_CHECKING:
    from charlm.inside.attend import Attended

LONGEST = 10  # characters of a token that are shown


@with_settings(OPENING, without={"quantize"})
def attend(
    run: Run = "last",
    *,
    text: Annotated[str, typer.Option(help="text that looks back, or is written; - reads standard input")],
    source: Annotated[
        str | None,
        typer.Option(
            help="what an encoder reads first; - as above \\[default: the first half of the text]", show_default=False
        ),
    ] = None,
    encoding: Encoding = None,
    layer: Annotated[int | None, typer.Option(help="from 1 \\[default: the last]", show_default=False)] = None,
    head: Annotated[int | None, typer.Option(help="from 1 \\[default: the mean of all]", show_default=False)] = None,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    given: dict[str, Any],
) -> None:
    refuse_unused(encoding, read=PIPED in (text, source), advice="--text -")
    for option, words in (("--text", text), ("--source", source or "")):
        refuse_file(option, words)
    text = read_words("--text", text, encoding)
    source = None if source is None else read_words("--source", source, encoding)
    path = folder.find(run)
    from charlm.inside.attend import attend as look

    with open_run(run, path, take(Opening, given)) as writer:
        attended = look(writer, text, source=source, layer=layer, head=head)
    present(AttentionMap(attended), attended.to_json(), json=json, html=html, svg=svg, png=png)


class AttentionMap:
    """Attention weights: a row per query, a column per key, in as many panels as the width of the terminal needs."""

    def __init__(self, attended: Attended) -> None:
        self.attended = attended
        self.rows, self.columns = (
            [shorten(visible(token)) for token in tokens] for tokens in (attended.rows, attended.columns)
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        side = max(map(cell_len, self.rows)) + 1
        available = options.max_width - side
        wide = any(cell_len(c) > 1 for name in self.columns for c in characters(name))
        cell = next((c for c in (3, 2) if c * len(self.columns) <= available), 2 if wide else 1)
        head = "the mean of all heads" if self.attended.head is None else f"head {self.attended.head}"
        unit = "numbers are percent" if cell > 1 else "numbers are tenths"
        yield Text(f"attention of layer {self.attended.layer}, {head}; {unit}")
        yield Text(
            "a row is being written while it looks at the source above"
            if self.attended.of_pair
            else "a row has just read its token, and looks at the columns to guess the next one"
        )
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


def shorten(token: str) -> str:
    parts = characters(token)
    return token if len(parts) <= LONGEST else "".join(parts[: LONGEST - 1]) + "…"
