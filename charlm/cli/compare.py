"""`charlm compare`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from charlm import kinds
from charlm.cli.comparison import print_comparison
from charlm.cli.console import err, note
from charlm.cli.options import Json, with_settings
from charlm.cli.pictures import save
from charlm.cli.texts import other_data, refuse_unused, text_to_train_on
from charlm.config import DataSettings, Settings, TrainSettings, fields_of
from charlm.errors import RunError, SettingsError
from charlm.runs import folder

if TYPE_CHECKING:
    from charlm.compare.contest import Contest, Match
    from charlm.compare.run import Comparison, Event, Planned
    from charlm.kinds._base import AnyCorpus, Kind

DEFAULTS = "; of ".join(
    f"{kind.name()}: {kind.entrants}" if kind.name() != kinds.TEXT else kind.entrants for kind in kinds.all_kinds()
)


def command(argv: Sequence[str]) -> Callable[..., None]:
    """The command; for its own help page with the defaults that the recipes of all architectures have in common."""
    data = kinds.all_kinds()
    panels: dict[str, type[Settings]] = {
        "Training, the same for all": TrainSettings,
        **{kind.name().capitalize(): kind.Settings for kind in data},
    }
    decorate = partial(with_settings, panels)
    if "compare" not in argv[:1] or not {"-h", "--help"} & {*argv}:
        return decorate()(compare)  # without importing torch
    from charlm import archs
    from charlm.cli.planning import typed_value
    from charlm.compare.contest import MINUTES, shared_settings
    from charlm.plan import device_of, recipe

    groups: list[type[Settings]] = [TrainSettings, *(kind.Settings for kind in data)]
    fields = {f.name: f for group in groups for f in fields_of(group) if f.name not in shared_settings()}
    networks = [archs.load(name) for name in archs.names()]
    device = typed_value(argv, "--device")
    on = device_of({"device": device} if device else {})

    def common_defaults(kind: type[Kind]) -> dict[str, Any]:
        """The default of every setting in the recipes for a kind of data, or a text where they differ."""
        of_kind = [network for network in networks if kind.name() in (kinds.TEXT, *network.recipes)]
        budgets = (False, True) if kind.long else (False,)
        layers = [recipe(network, kind, on, long=long)[1] for network in of_kind for long in budgets]
        values = {name: {layer.get(name, field.default) for layer in layers} for name, field in fields.items()}
        return {name: v.pop() if len(v) == 1 else "what suits each" for name, v in values.items() if v}

    first, *others = data
    texts = common_defaults(first)
    differing = {
        f"for {kind.name()}": {
            name: value
            for name, value in common_defaults(kind).items()
            if value != texts[name] and (name in kind.own or name not in first.own)
        }
        for kind in others
    }
    batches = {name: value for kind in data for name, value in kind.batches_on(on).items()}
    return decorate({"minutes": MINUTES, **batches, **texts}, differing)(compare)


def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="a text to train on, pairs (.tsv, .jsonl), or runs that are there", show_default=False),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="architectures and presets, with commas; settings of one after colons: lstm:layers=2; family: every "
            f"form of the transformer, small \\[default: {DEFAULTS}]",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        Literal["time", "tokens", "params", "work"] | None,
        typer.Option(
            help="what is equal: time (--minutes), text read (--epochs, --steps), or the models' sizes as well: their "
            "parameters, or their work, in multiply-adds per token \\[default: by the budget given]",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="trainings of each, with seeds that follow each other", min=1, max=1000)
    ] = 1,
    jobs: Annotated[int, typer.Option(help="trainings at once, which share the processor", min=1, max=1000)] = 1,
    target: Annotated[
        float | None,
        typer.Option("--target-bits", help="bits per byte: show when each came there", show_default=False),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="of runs: score all on this text instead", show_default=False)
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option(help="of runs that translate: on these pairs instead", show_default=False)
    ] = None,
    along: Annotated[
        Literal["time", "tokens", "steps"], typer.Option(help="what the learning curves are drawn along")
    ] = "time",
    folder_: Annotated[
        Path | None,
        typer.Option("--out", help="folder for the runs \\[default: a new one under runs/]", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="save a report with curves and samples (extra: report)", show_default=False)
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="as CSV, a line per training")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="as a Markdown table")] = False,
    *,
    given: dict[str, Any],
) -> None:
    if sum((json, csv, markdown)) > 1:
        raise SettingsError("--json, --csv and --markdown are different forms; give one of them")
    if html:
        from charlm.compare.report import check_extra  # before hours of training, not after

        check_extra()
        if not html.parent.is_dir():
            raise SettingsError(f"--html {html}: there is no folder {html.parent}; make it first")
    if what and any(map(is_run, what)):
        encoding = given.pop("encoding", None)
        if arch is not None or given or match or seeds > 1 or jobs > 1 or folder_:
            raise SettingsError("these are runs: they are compared as they are, without --arch and its training")
        work = compare_existing(what, text, pairs, target, encoding)
    else:
        if text or pairs:
            raise SettingsError(
                "--text and --pairs are for runs; what is trained here is scored on its own held-out part"
            )
        if not what:
            raise SettingsError("what is to be compared? charlm compare FILE trains on it; charlm compare RUN RUN")
        from charlm.compare.run import train_and_compare

        contest, corpus = make_contest(arch, match, seeds, given, what)
        work = train_and_compare(contest, corpus, out=folder_, jobs=jobs, target=target)
    comparison = show_progress(work, jobs)
    print_comparison(comparison, along, json=json, csv=csv, markdown=markdown)
    if html:
        from charlm.compare.report import page

        save(html, page(comparison).encode("utf-8", "replace"))  # a model may write half a character


def compare_existing(
    names: list[str], text: list[str] | None, pairs: list[str] | None, target: float | None, encoding: str | None
) -> Generator[Event, None, Comparison]:
    """Compare existing runs, on their own held-out part or on other data."""
    from charlm.compare.run import compare_runs

    if text and pairs:
        raise SettingsError("--text and --pairs are different texts; give one of them")
    refuse_unused(encoding, read=bool(text or pairs), advice="--text FILE or --pairs FILE")
    first = folder.info(folder.find(names[0]))
    others = other_data(kinds.load(first.kind), {"text": text, "pairs": pairs}, encoding)
    return compare_runs(names, corpus=others, target=target)


def make_contest(
    arch: str | None,
    match: Match | None,
    seeds: int,
    given: dict[str, Any],
    files: list[str],
) -> tuple[Contest, AnyCorpus]:
    """The contest and the data in `files`: of a kind that all the architectures read, or that the files' names say."""
    from charlm.compare.contest import Contest, Entrant, labels
    from charlm.plan import kinds_for

    readable = {kind.name() for kind in kinds.all_kinds()}
    for label in () if arch is None else labels(arch):
        readable &= {*kinds_for(Entrant.parse(label).settings["arch"])}
    readable.add(kinds.named(files, given.get("encoding", DataSettings().encoding)).name())
    kind, corpus = text_to_train_on(files, None, None, given, readable)
    entrants = labels(kind.entrants if arch is None else arch)
    equal: Match = match or ("tokens" if given.keys() & {"epochs", "steps"} else "time")
    return Contest.of(entrants, equal, seeds, given, kind=kind.name()), corpus


def is_run(name: str) -> bool:
    with suppress(RunError):
        folder.find(name)
        return True
    return False


def show_progress(work: Generator[Event, None, Comparison], jobs: int) -> Comparison:
    """Run `work` to its end: on a terminal with a bar per training, with a line when one ends. Returns the result."""
    from charlm.compare.run import Planned
    from charlm.compare.worker import TrainingEnded, TrainingProgress
    from charlm.events import Note

    task, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
    columns = (task, BarColumn(), state)
    bars: dict[Path, TaskID] = {}
    planned: Planned | None = None
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as display:
        other = display.add_task("", total=None, state="")
        try:
            while True:
                event = next(work)
                if isinstance(event, Planned):
                    planned = event
                    display.update(other, visible=False)
                    print_plan(event, jobs)
                    bars = {run: display.add_task(run.name, total=1.0, state="waiting") for run in event.plans}
                    for run in event.done:
                        display.update(bars[run], completed=1.0, state="done before")
                elif isinstance(event, TrainingProgress):
                    score = f"{event.score.value:.3f} {event.score.measure.unit}" if event.score else ""
                    progress = event.progress
                    display.update(bars[event.path], completed=progress, state=f"{progress:4.0%}  {score}")
                elif isinstance(event, TrainingEnded):
                    outcome = f"failed: {event.failure}" if event.failure else "done"
                    display.update(bars[event.path], completed=1.0, state=outcome[:60])
                    err.print(f"{event.path.name}: {outcome}", markup=False)
                elif isinstance(event, Note):
                    note(event.text)
                else:
                    display.update(other, description=event.what, completed=event.done, total=event.total, visible=True)
        except StopIteration as end:
            comparison: Comparison = end.value
            return comparison
        except KeyboardInterrupt:
            if planned:
                err.print(
                    f"\ninterrupted; {planned.path} keeps what was trained: the same command goes on", markup=False
                )
            raise
        finally:
            work.close()


def print_plan(event: Planned, jobs: int) -> None:
    """Say how many trainings are to come, and for how long."""
    remaining = [plan for run, (_, plan) in event.plans.items() if run not in event.done]
    minutes = sum(plan.train.minutes or 0 for plan in remaining) / jobs
    time = f", about {minutes:g} minutes" if minutes else ""
    err.print(f"{len(remaining)} trainings to do{time}; {len(event.done)} done before; in {event.path}", markup=False)
    if event.sized:
        sizes = {label: plan.model.to_dict().get("hidden_size") for label, plan in event.plans.values()}
        err.print("hidden sizes: " + ", ".join(f"{label} {size}" for label, size in sizes.items()), markup=False)
    if jobs > 1:
        err.print(f"{jobs} at once share the processor: speeds are of that", markup=False)
