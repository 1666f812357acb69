"""`charlm lens`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import read_words_and_source
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.lens import GuessTable

if TYPE_CHECKING:
    pass


@with_settings(OPENING, without={"quantize"})
def lens(
    run: Run = "last",
    *,
    text: Annotated[str, typer.Option(help="text to be read, or written; - reads standard input")],
    source: Annotated[
        str | None, typer.Option(help="what an encoder reads first; - as above", show_default=False)
    ] = None,
    encoding: Encoding = None,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    given: dict[str, Any],
) -> None:
    text, source = read_words_and_source(text, source, encoding)
    path = folder.find(run)
    from charlm.inside.lens import lens as look

    with open_run(run, path, take(Opening, given)) as writer:
        guesses = look(writer, text, source=source)
    present(GuessTable(guesses), guesses.to_json, json=json, html=html, svg=svg, png=png)
