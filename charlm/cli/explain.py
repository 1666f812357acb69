"""`charlm explain`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from charlm.asking import refuse_unused
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import PIPED, read_words
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.sampling.settings import Prompt, Request, SampleSettings
from charlm.views.explain import view


@with_settings({"Prompt": Prompt, "Picking": SampleSettings, **OPENING})
def explain(
    run: Run = "last",
    encoding: Encoding = None,
    top: Annotated[int, typer.Option(help="tokens to show", min=1, max=1000)] = 12,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    request, path = take(Request, given), folder.find(run, kind="text", command="")
    refuse_unused(encoding, read=request.prompt == PIPED, advice="--prompt -")
    request = replace(request, prompt=read_words("--prompt", request.prompt, encoding))
    from charlm.inside.explain import explain as explained

    with open_run(run, path, take(Opening, given)) as writer:
        explanation = explained(writer, request, top)
    value = {"prompt": request.prompt, **explanation.to_json()}
    present(view(explanation, request.prompt), lambda: value, json=json, html=html, svg=svg, png=png)
