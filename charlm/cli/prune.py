"""`charlm prune`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.opened import errors_name_run
from charlm.cli.options import RUN, Json
from charlm.cli.signals import until_interrupted
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.views.console import show, table, watch

if TYPE_CHECKING:
    from charlm.pruning import Pruning
    from charlm.score import Score


def prune(
    run: Annotated[str, typer.Argument(help=RUN)],
    share: Annotated[float, typer.Option(help="of each matrix, the smallest weights, that becomes zero")] = 0.5,
    *,
    out: Annotated[Path, typer.Option(help="new folder for the pruned run")],
    minutes: Annotated[
        float | None,
        typer.Option(
            help="retrain so long on the run's own text; zeros stay zero \\[default: not at all]", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    path = folder.find(run)
    if minutes is not None and minutes <= 0:
        raise SettingsError(f"--minutes must be above 0, got {minutes:g}; without it nothing is retrained")
    from charlm.pruning import pruning

    with errors_name_run(run, path):
        made = watch(pruning(path, share, out))
        if minutes is None:
            made.write(out)
    retrained = retrain(made, out, minutes, quiet=json) if minutes is not None else None
    scores = {"before": made.before, "pruned": made.after} | ({"retrained": retrained} if retrained else {})
    if json:
        figures = {f"{name}_{made.before.measure.name}": score.value for name, score in scores.items()}
        print(jsonlib.dumps({"run": str(out), **figures, "params": made.parameters, "nonzero": made.nonzero}))
        return
    rows = table("", f">{made.before.measure.unit}", ">lost", ">weights that are not zero")
    for name, score in scores.items():
        lost = f"{score.value - made.before.value:+.3f}" if name != "before" else ""
        rows.add_row(name, f"{score.value:.3f}", lost, f"{made.parameters if name == 'before' else made.nonzero:,}")
    show(rows)


def retrain(made: Pruning, out: Path, minutes: float, *, quiet: bool) -> Score | None:
    """Train the pruned run into `out`; its best score."""
    from charlm import job
    from charlm.cli import watching
    from charlm.signals import handle_signals

    plan, corpus = made.origin.retraining(minutes)
    with handle_signals(quiet=quiet) as signals:
        events = job.train(plan, corpus, out=out, origin=made.origin, control=signals.control)
        finished = watching.show(until_interrupted(events, signals), quiet=quiet, json=False)
    if signals.number and not finished:
        raise typer.Exit(128 + signals.number)
    return folder.info(out).best
