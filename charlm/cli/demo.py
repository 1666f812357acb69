"""`charlm demo`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.console import out, write
from charlm.errors import CorpusError
from charlm.runs import folder

if TYPE_CHECKING:
    from charlm.plan import Plan


def demo(
    minutes: Annotated[float, typer.Option(min=0.01, help="how long to train")] = 1.0,
    arch: Annotated[str, typer.Option(help="network to train, see charlm archs")] = "lstm",
) -> None:
    """Train on a bundled play for a minute, then write some of it anew."""
    from charlm import job
    from charlm.cli.train import heeding_signals, until
    from charlm.cli.watching import show
    from charlm.plan import Plan
    from charlm.text.catalogue import bundled
    from charlm.text.corpus import Corpus
    from charlm.writer import Writer

    play = next((text.path for text in bundled() if text.path.stem == "saltmere"), None)
    if play is None:
        raise CorpusError("the bundled play is missing from this installation; install charlm again")
    with heeding_signals() as signals:
        plan = Plan.of({"arch": arch, "minutes": minutes})
        if begun := unfinished(plan, play):
            out.print(f"going on with {begun}, which was interrupted", markup=False)
            events = job.resume(begun, changes={}, wishes=signals.wishes)
        else:
            events = job.train(plan, Corpus.open([play]), wishes=signals.wishes)
        finished = show(until(events, signals), quiet=False, json=False)
    if not finished:
        raise typer.Exit(128 + signals.number)
    out.print("\nand this is what it writes:\n", style="bold")
    for text in islice(Writer.load().stream(), 600):
        write(text)
    write("\n")


def unfinished(plan: Plan, play: Path) -> Path | None:
    """An earlier demo of the same plan that was killed or interrupted."""
    asked = plan.to_dict()
    for info in reversed(folder.list_runs()):
        same = all(info.config[part] == asked[part] for part in ("arch", "model", "data"))
        same = same and info.config["train"]["minutes"] == plan.train.minutes
        if same and info.config["corpus"]["paths"] == [str(play.resolve())] and not info.training.get("finished"):
            path: Path = info.path
            return path
    return None
