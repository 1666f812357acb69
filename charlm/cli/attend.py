"""`charlm attend`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import read_words_and_source
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.attend import AttentionMap, Thumbnails

if TYPE_CHECKING:
    pass


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
    everything: Annotated[bool, typer.Option("--all", help="every head of every layer, small")] = False,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    given: dict[str, Any],
) -> None:
    if everything and (layer, head) != (None, None):
        raise SettingsError("--all shows every head of every layer; leave out --layer and --head, or --all")
    text, source = read_words_and_source(text, source, encoding)
    path = folder.find(run)
    from charlm.inside.attend import attend_all

    with open_run(run, path, take(Opening, given)) as writer:
        looked = attend_all(writer, text, source=source)
        attended = None if everything else looked.chosen(layer, head)
    view, value = (AttentionMap(attended), attended.to_json) if attended else (Thumbnails(looked), looked.to_json)
    present(view, value, json=json, html=html, svg=svg, png=png)
