"""`charlm demo`."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from charlm.cli.console import out, write
from charlm.errors import CorpusError


def demo(
    minutes: Annotated[float, typer.Option(min=0.01, help="how long to train")] = 1.0,
    arch: Annotated[str, typer.Option(help="network to train, see charlm archs")] = "lstm",
) -> None:
    """Train on a bundled play for a minute, then write some of it anew."""
    from charlm import job
    from charlm.cli.train import stop_on_signal, until
    from charlm.cli.watching import show
    from charlm.plan import Plan
    from charlm.text.catalogue import bundled
    from charlm.text.corpus import Corpus
    from charlm.writer import Writer

    play = next((text.path for text in bundled() if text.path.stem == "saltmere"), None)
    if play is None:
        raise CorpusError("the bundled play is missing from this installation; install charlm again")
    with stop_on_signal() as stop:
        plan = Plan.of({"arch": arch, "minutes": minutes})
        events = job.train(plan, Corpus.open([play]), stop=stop.event)
        finished = show(until(events, stop), quiet=False, json=False)
    if not finished:
        raise typer.Exit(128 + stop.number)
    out.print("\nand this is what it writes:\n", style="bold")
    for text in islice(Writer.load().stream(), 600):
        write(text)
    write("\n")
