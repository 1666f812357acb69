"""`charlm neurons`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm.asking import refuse_unused
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import PIPED, read_words, refuse_file
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.neurons import Traces

if TYPE_CHECKING:
    pass

Feature = Literal["quote", "bracket", "newline", "capital", "linelength"]


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
    refuse_unused(encoding, read=text == PIPED, advice="--text -")
    text, path = read_words("--text", text, encoding), folder.find(run, kind="text", command="")
    from charlm.inside.neurons import neurons as look

    with open_run(run, path, take(Opening, given)) as writer:
        result = look(writer, text, layer=layer, unit=unit, gate=gate, find=find, top=top)
    present(Traces(result), result.to_json, json=json, html=html, svg=svg, png=png)
