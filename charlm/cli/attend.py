"""`charlm attend`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from charlm.cli.opened import OPENING, opened
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, heat, present
from charlm.cli.texts import PIPED, read_words, refuse_file, refuse_idle
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.characters import characters
from charlm.text.visible import visible

if TYPE_CHECKING:
    from charlm.inside.attend import Attended

LONGEST = 10  # columns of a token's name


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
    refuse_idle(encoding, read=PIPED in (text, source), where="--text -")
    for option, words in (("--text", text), ("--source", source or "")):
        refuse_file(option, words)
    text = read_words("--text", text, encoding)
    source = None if source is None else read_words("--source", source, encoding)
    path = folder.find(run)
    from charlm.inside.attend import attend as look

    with opened(run, path, take(Opening, given)) as writer:
        found = look(writer, text, source=source, layer=layer, head=head)
    present(Map(found), found.to_json(), json=json, html=html, svg=svg, png=png)


class Map:
    """A row for each token that looks, a column for each that is looked at, in as many panels as the width asks for."""

    def __init__(self, found: Attended) -> None:
        self.found = found
        self.rows, self.columns = (
            [shortened(visible(name)) for name in names] for names in (found.rows, found.columns)
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        side = max(map(cell_len, self.rows)) + 1
        room = options.max_width - side
        wide = any(cell_len(c) > 1 for name in self.columns for c in characters(name))
        cell = next((c for c in (3, 2) if c * len(self.columns) <= room), 2 if wide else 1)
        which = "the mean of all heads" if self.found.head is None else f"head {self.found.head}"
        share = "numbers are percent" if cell > 1 else "numbers are tenths"
        yield Text(f"attention of layer {self.found.layer}, {which}; {share}")
        yield Text(
            "a row is being written while it looks at the source above"
            if self.found.of_pair
            else "a row has just read its token, and looks at the columns to guess the next one"
        )
        panels = math.ceil(len(self.columns) / max(1, room // cell))
        step = math.ceil(len(self.columns) / panels)
        for start in range(0, len(self.columns), step):
            yield Text()
            yield from self.panel(slice(start, start + step), side, cell)

    def panel(self, part: slice, side: int, cell: int) -> RenderResult:
        names = [characters(name) for name in self.columns[part]]
        height = max(map(len, names))
        for line in zip(*([" "] * (height - len(name)) + name for name in names), strict=True):  # names stand upright
            yield Text(" " * side + "".join(" " * (cell - cell_len(c)) + c for c in line), no_wrap=True)
        for name, weights in zip(self.rows, self.found.weights, strict=True):
            if not weights[part]:
                continue  # it stands before all of these columns
            row = Text(" " * (side - 1 - cell_len(name)) + name + " ", no_wrap=True)
            for weight in weights[part]:
                row.append(number(weight, cell), heat(weight**0.5))  # a root: small weights should show as well
            yield row


def number(weight: float, cell: int) -> str:
    """Percent in two or three columns, tenths in one; nothing for what rounds to 0."""
    parts = 100 if cell > 1 else 10
    return str(min(int(weight * parts + 0.5), 10**cell - 1) or "").rjust(cell)


def shortened(name: str) -> str:
    cut = characters(name)
    return name if len(cut) <= LONGEST else "".join(cut[: LONGEST - 1]) + "…"
