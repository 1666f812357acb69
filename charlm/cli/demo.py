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
    from charlm.cli.train import stop_on_signal
    from charlm.cli.watching import show
    from charlm.plan import Plan
    from charlm.runs import folder
    from charlm.text.catalogue import bundled
    from charlm.text.corpus import Corpus
    from charlm.writer import Writer

    play = next((text.path for text in bundled() if text.path.stem == "saltmere"), None)
    if play is None:
        raise CorpusError("the bundled play is missing from this installation; install charlm again")
    path = folder.vacant(None, f"demo-{arch}")
    with stop_on_signal() as stop:
        plan = Plan.of({"arch": arch, "minutes": minutes})
        show(job.train(plan, Corpus.open([play]), out=path, stop=stop.event), quiet=False, json=False)
    if stop.number:
        raise typer.Exit(128 + stop.number)
    out.print("\nand this is what it writes:\n", style="bold")
    for text in islice(Writer.load(path).stream(), 600):
        write(text)
    write("\n")
