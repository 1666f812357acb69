"""`charlm train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli.planning import (
    Arch,
    CacheDir,
    Config,
    Files,
    InitFrom,
    ObjectiveName,
    Preset,
    Source,
    Target,
    with_plan,
)
from charlm.cli.serve import refuse_without_extra
from charlm.cli.signals import until_interrupted


def command(argv: Sequence[str]) -> Callable[..., None]:
    return with_plan("train", train, argv)


def complete_resume(argv: Sequence[str]) -> list[str]:
    """`--resume` without a run means the last one; Typer knows no option whose value may be left out."""
    words: list[str] = []
    for word, following in zip(argv, [*argv, "--"][1:], strict=True):
        words.append(word)
        if word == "--resume" and following.startswith("-"):
            words.append("last")
    return words


def train(
    corpus: Files = None,
    source: Source = None,
    target: Target = None,
    arch: Arch = None,
    objective: ObjectiveName = None,
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the run \\[default: a new one under runs/]", show_default=False),
    ] = None,
    preset: Preset = None,
    config: Config = None,
    init_from: InitFrom = None,
    resume: Annotated[
        str | None,
        typer.Option(help="go on with this run, or the last (a larger budget may be given)", show_default=False),
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="with --resume: from the checkpoint before the last one")
    ] = False,
    stop_after: Annotated[
        int | None,
        typer.Option(help="stop after so many steps, to be resumed; the plan stays", min=1, show_default=False),
    ] = None,
    cache_dir: CacheDir = None,
    play: Annotated[bool, typer.Option("--play", help="open a page in the browser that draws the curve")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="say nothing; with --json, nothing else")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per event")] = False,
    *,
    given: dict[str, Any],
) -> None:
    from charlm import job
    from charlm.cli.play import with_page
    from charlm.cli.watching import show
    from charlm.signals import handle_signals
    from charlm.training.world import joined_world

    if play:
        refuse_without_extra("train --play")
    with handle_signals(quiet=quiet) as signals, joined_world() as world:
        events = job.begin(
            train,
            corpus,
            given,
            source=source,
            target=target,
            arch=arch,
            objective=objective,
            out=out,
            preset=preset,
            config=config,
            init_from=init_from,
            again=resume,
            previous=previous,
            cache_dir=cache_dir,
            stop_after=stop_after,
            control=signals.control,
            world=world,
        )
        events = until_interrupted(events, signals)
        finished = show(with_page(events) if play else events, quiet=quiet, json=json)
    if signals.number and not finished:
        raise typer.Exit(128 + signals.number)
