"""`charlm explain`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from charlm.cli.console import table
from charlm.cli.options import Device, Encoding, Json, Run, Weights, naming, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import PIPED, read_words, refuse_idle
from charlm.config import take
from charlm.runs import folder
from charlm.sampling.settings import SampleSettings
from charlm.text.visible import held

WIDTH = 12  # columns of a bar
EIGHTHS = " ▏▎▍▌▋▊▉█"


@with_settings({"Picking": SampleSettings})
def explain(
    run: Run = "last",
    prompt: Annotated[str, typer.Option(help="the text before the token; - reads standard input")] = "",
    encoding: Encoding = None,
    top: Annotated[int, typer.Option(help="tokens to show", min=1, max=1000)] = 12,
    weights: Weights = "best",
    device: Device = "auto",
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    settings, path = take(SampleSettings, given), folder.find(run, pairs=False)
    refuse_idle(encoding, read=prompt == PIPED, where="--prompt -")
    prompt = read_words("--prompt", prompt, encoding)
    from charlm.inside.explain import explain as explained
    from charlm.writer import Writer

    with naming(run, path):
        found = explained(Writer.load(path, weights=weights, device=device), prompt, settings, top)
    shown = table("token", *(stage.name for stage in found.stages))
    for row, token in enumerate(found.tokens):
        shown.add_row(repr(held(token)), *(cell(stage.probabilities[row]) for stage in found.stages))
    shown.add_row("others", *(cell(stage.rest) for stage in found.stages), style="dim")
    shown.add_row("possible", *(f"{stage.kept}" for stage in found.stages), style="dim")
    value = {"prompt": prompt, "tokens": found.tokens, "stages": [stage._asdict() for stage in found.stages]}
    present(
        Group(Text(f"after {prompt!r}, from left to right:\n"), shown), value, json=json, html=html, svg=svg, png=png
    )


def cell(share: float) -> str:
    """A bar and the number; nothing for what cannot come any more."""
    if share <= 0:
        return ""
    eighths = round(share * WIDTH * 8)
    bar = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return f"{share:6.1%} {bar}"
