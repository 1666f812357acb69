"""`charlm eval`."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Literal

import typer

from charlm.cli.console import show, table, watch
from charlm.cli.options import Device, Quantize, Weights
from charlm.errors import SettingsError


def evaluate(
    run: Annotated[str, typer.Argument(help="run: a folder, a name under runs/, last or best")] = "last",
    split: Annotated[
        Literal["val", "test"] | None,
        typer.Option(help="held-out part of the run's own text \\[default: val]", show_default=False),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="another text: a file, folder or pattern, or - for standard input", show_default=False),
    ] = None,
    weights: Annotated[Weights, typer.Option(help="the best on the validation text, or the last")] = "best",
    device: Annotated[Device, typer.Option(help="where to compute")] = "auto",
    quantize: Quantize = None,
    json: Annotated[bool, typer.Option("--json", help="as a JSON object")] = False,
) -> None:
    """Score a text exactly, each byte once. [dim]charlm eval --split test[/]"""
    if split and text:
        raise SettingsError("--split and --text are two different texts; give one of them")
    from charlm.scoring import score_run

    values = watch(
        score_run(run, split=split or "val", text=text or (), weights=weights, device=device, quantize=quantize)
    )
    if json:
        print(jsonlib.dumps(values))
        return
    shown = table("", ">")
    for name, value in values.items():
        shown.add_row(name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    show(shown)
