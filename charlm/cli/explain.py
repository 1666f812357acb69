"""`charlm explain`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from charlm.cli.console import table
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import PIPED, read_words, refuse_unused
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.sampling.settings import Prompt, Request, SampleSettings
from charlm.text.visible import with_base

WIDTH = 12  # columns of a bar
EIGHTHS = " ▏▎▍▌▋▊▉█"


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
    request, path = take(Request, given), folder.find(run, kind="text")
    refuse_unused(encoding, read=request.prompt == PIPED, advice="--prompt -")
    request = replace(request, prompt=read_words("--prompt", request.prompt, encoding))
    from charlm.inside.explain import explain as explained

    with open_run(run, path, take(Opening, given)) as writer:
        tokens, stages = explained(writer, request, top)
    probabilities = table("token", *(stage.name for stage in stages))
    for row, token in enumerate(tokens):
        probabilities.add_row(repr(with_base(token)), *(cell(stage.probabilities[row]) for stage in stages))
    probabilities.add_row("others", *(cell(stage.rest) for stage in stages), style="dim")
    probabilities.add_row("possible", *(f"{stage.kept}" for stage in stages), style="dim")
    view = Group(Text(f"after {request.prompt!r}, from left to right:\n"), probabilities)
    present(
        view,
        lambda: {"prompt": request.prompt, "tokens": tokens, "stages": [stage._asdict() for stage in stages]},
        json=json,
        html=html,
        svg=svg,
        png=png,
    )


def cell(probability: float) -> str:
    """The number and a bar; empty for a token that was filtered out."""
    if probability <= 0:
        return ""
    eighths = round(probability * WIDTH * 8)
    bar = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return f"{probability:6.1%} {bar}"
