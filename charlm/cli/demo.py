"""`charlm demo`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.errors import CorpusError, RunError
from charlm.runs import folder
from charlm.views.console import out, write

if TYPE_CHECKING:
    from charlm.plan import Plan
    from charlm.text.corpus import Corpus


def demo(
    minutes: Annotated[float, typer.Option(min=0.01, help="how long to train")] = 1.0,
    arch: Annotated[str, typer.Option(help="network to train, see charlm archs")] = "lstm",
) -> None:
    from charlm import job
    from charlm.cli.signals import until_interrupted
    from charlm.cli.watching import show
    from charlm.plan import Plan, device_of
    from charlm.signals import handle_signals
    from charlm.text.catalogue import bundled_path
    from charlm.text.corpus import Corpus
    from charlm.writer import Writer

    play = bundled_path("saltmere")
    if play is None:
        raise CorpusError("the bundled play is missing from this installation; install charlm again")
    with handle_signals() as signals:
        plan = Plan.of({"arch": arch, "minutes": minutes}, on=device_of())
        corpus = Corpus.open([play])
        if earlier := unfinished(plan, corpus):
            out.print(f"going on with {earlier}, which was interrupted", markup=False)
            events = job.resume(earlier, changes={}, control=signals.control)
        else:
            events = job.train(plan, corpus, control=signals.control)
        finished = show(until_interrupted(events, signals), quiet=False, json=False)
    if not finished:
        raise typer.Exit(128 + signals.number)
    out.print("\nand this is what it writes:\n", style="bold")
    for text in islice(Writer.load().stream(), 600):
        write(text)
    write("\n")
    out.print(
        "\nnext: charlm play opens a page in the browser: it writes more, and shows what goes on inside", markup=False
    )


def unfinished(plan: Plan, corpus: Corpus) -> Path | None:
    """An interrupted run of the same plan and text that no process is training now; None if there is none."""
    from charlm.plan import Plan

    for info in reversed(folder.list_runs()):
        with suppress(RunError):
            other = Plan.from_dict(info.config)
            resolved: Any = {name: getattr(other.train, name) for name in ("device", "precision", "compile")}
            same_plan = other == replace(plan, train=replace(plan.train, **resolved))
            same_text = info.config["corpus"]["sha256"] == corpus.sha256
            if same_plan and same_text and not info.training.get("finished"):
                with folder.locked(info.path):
                    path: Path = info.path
                    return path
    return None
