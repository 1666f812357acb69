"""`charlm context`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import Encoding, Json, OtherText, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import other_text
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.console import watch
from charlm.views.context import view

if TYPE_CHECKING:
    pass


@with_settings(OPENING, without={"quantize"})
def context(
    run: Run = "last",
    text: OtherText = None,
    encoding: Encoding = None,
    positions: Annotated[int, typer.Option(help="places that are scored", min=1, max=100_000)] = 500,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    *,
    given: dict[str, Any],
) -> None:
    path = folder.find(run, kind="text", command="")
    other = other_text(text, encoding)
    from charlm.inside.context import reach

    with errors_name_run(run, path):
        reached = watch(reach(path, text=other, positions=positions, opening=take(Opening, given)))
    present(view(reached), reached.to_json, json=json, html=html, svg=svg, png=png)
