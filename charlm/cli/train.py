"""`charlm train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm import kinds
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
    errors_name_source,
    make_plan,
    open_origin,
    requested,
    with_plan,
)
from charlm.cli.signals import handle_signals, until_interrupted
from charlm.errors import CorpusError, SettingsError
from charlm.runs import folder

if TYPE_CHECKING:
    from charlm.events import Event
    from charlm.kinds._base import AnyCorpus
    from charlm.plan import Plan


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
    quiet: Annotated[bool, typer.Option("--quiet", help="say nothing; with --json, nothing else")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per event")] = False,
    *,
    given: dict[str, Any],
) -> None:
    from charlm import job
    from charlm.cli.watching import show
    from charlm.events import Note
    from charlm.processes import begun_before
    from charlm.training.world import joined_world

    with handle_signals(quiet=quiet) as signals, joined_world() as world:
        session: Any = {"cache_dir": cache_dir, "stop_after": stop_after, "control": signals.control, "world": world}
        if resume is not None:
            if corpus or source or target or arch or objective or out or preset or config or init_from:
                raise SettingsError("--resume takes text and settings from the run; give only a larger budget with it")
            events = job.resume(folder.find(resume), changes=given, previous=previous, **session)
        else:
            if previous:
                raise SettingsError("--previous goes back in a run; say which: --resume RUN --previous")
            origin = open_origin(init_from)
            layers, typed, on = requested(given, arch, objective, preset, config, origin)
            with errors_name_source(layers, typed, train):
                plan, text = make_plan([*layers.values(), typed], corpus, source, target, origin, on)
            begun = begun_before(plan, text, out)
            new, changes = {"out": out, "origin": origin, **session}, {"parallel": plan.train.parallel}
            events = job.resume(begun, changes=changes, **session) if begun else job.train(plan, text, **new)
            goes_on = [Note(f"goes on with {begun}, which this launch has begun")] if begun else []
            events = chain(goes_on, hints(plan, text), events)
        finished = show(until_interrupted(events, signals), quiet=quiet, json=json)
    if signals.number and not finished:
        raise typer.Exit(128 + signals.number)


def hints(plan: Plan, text: AnyCorpus) -> Iterator[Event]:
    """A note if the file looks like another kind of data than the one that it is read as."""
    from charlm.events import Note
    from charlm.plan import kinds_for
    from charlm.text.corpus import Corpus

    if plan.kind == kinds.TEXT and isinstance(text, Corpus):
        with suppress(CorpusError):  # it is of several kinds
            if (kind := kinds.claimant(text)).name() not in kinds_for(plan.arch):
                fact = f"{text.paths[0]} holds {kind.noun}, of which {plan.arch} reads the lines as they stand"
                yield Note(f"{fact}; to learn from them as such, train with --arch {kind.arch}")
