"""`charlm compare`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from charlm import kinds
from charlm.cli.console import err, note, out, show, table
from charlm.cli.options import Json, with_settings
from charlm.cli.pictures import save
from charlm.cli.texts import NO_BLEU, other_data, refuse_idle, text_to_train_on
from charlm.config import DataSettings, Settings, TrainSettings, fields_of
from charlm.errors import RunError, SettingsError
from charlm.runs import folder

if TYPE_CHECKING:
    from charlm.cli.curves import Along
    from charlm.compare.contest import Contest, Match
    from charlm.compare.run import Comparison, Event, Planned
    from charlm.kinds._base import AnyCorpus, Kind

DEFAULTS = "; of ".join(
    f"{kind.name()}: {kind.entrants}" if kind.name() != kinds.TEXT else kind.entrants for kind in kinds.all_kinds()
)


def command(argv: Sequence[str]) -> Callable[..., None]:
    """The command; its own help page tells which settings are what suits each architecture."""
    data = kinds.all_kinds()
    panels: dict[str, type[Settings]] = {
        "Training, the same for all": TrainSettings,
        **{kind.name().capitalize(): kind.Settings for kind in data},
    }
    make = partial(with_settings, panels)
    if "compare" not in argv[:1] or not {"-h", "--help"} & {*argv}:
        return make()(compare)  # spares the import of torch
    from charlm import archs
    from charlm.compare.contest import MINUTES, shared_settings

    groups: list[type[Settings]] = [TrainSettings, *(kind.Settings for kind in data)]
    fields = {f.name: f for group in groups for f in fields_of(group) if f.name not in shared_settings()}
    recipes = [archs.load(name).recipes for name in archs.names()]

    def shared(kind: type[Kind]) -> dict[str, Any]:
        """What all recipes for a kind of data say of a setting, or that they differ."""
        known = [recipe for recipe in recipes if kind.name() in (kinds.TEXT, *recipe)]
        several: list[dict[str, Any]] = [{**recipe.get(kind.name(), {})} for recipe in known]
        if kind.long:
            several += [{**short, **recipe.get(kind.long, {})} for short, recipe in zip(several, known, strict=True)]
        values = {name: {recipe.get(name, field.default) for recipe in several} for name, field in fields.items()}
        return {name: said.pop() if len(said) == 1 else "what suits each" for name, said in values.items() if said}

    first, *others = data
    texts = shared(first)
    differing = {
        f"for {kind.name()}": {
            name: said
            for name, said in shared(kind).items()
            if said != texts[name] and (name in kind.own or name not in first.own)
        }
        for kind in others
    }
    return make({"minutes": MINUTES, **texts}, differing)(compare)


def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="a text to train on, pairs (.tsv, .jsonl), or runs that are there", show_default=False),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help=f"architectures, with commas; settings of one after colons: lstm:layers=2 \\[default: {DEFAULTS}]",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        Literal["time", "tokens", "params"] | None,
        typer.Option(
            help="what is equal: time (--minutes), text read (--epochs, --steps), or parameters as well "
            "\\[default: by the budget given]",
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
        from charlm.compare.report import check_extra  # asked before hours of training, not after

        check_extra()
        if not html.parent.is_dir():
            raise SettingsError(f"--html {html}: there is no folder {html.parent}; make it first")
    if what and any(map(is_run, what)):
        encoding = given.pop("encoding", None)
        if arch is not None or given or match or seeds > 1 or jobs > 1 or folder_:
            raise SettingsError("these are runs: they are compared as they are, without --arch and its training")
        work = of_runs(what, text, pairs, target, encoding)
    else:
        if text or pairs:
            raise SettingsError(
                "--text and --pairs are for runs; what is trained here is scored on its own held-out part"
            )
        if not what:
            raise SettingsError("what is to be compared? charlm compare FILE trains on it; charlm compare RUN RUN")
        from charlm.compare.run import train_and_compare

        contest, corpus = planned(arch, match, seeds, given, what)
        work = train_and_compare(contest, corpus, out=folder_, jobs=jobs, target=target)
    made = follow(work, jobs)
    tell(made, along, json=json, csv=csv, markdown=markdown)
    if html:
        from charlm.compare.report import page

        save(html, page(made).encode("utf-8", "replace"))  # a model may write half a character


def of_runs(
    names: list[str], text: list[str] | None, pairs: list[str] | None, target: float | None, encoding: str | None
) -> Generator[Event, None, Comparison]:
    """Runs that are there, on their own held-out text or on another."""
    from charlm.compare.run import compare_runs

    if text and pairs:
        raise SettingsError("--text and --pairs are different texts; give one of them")
    refuse_idle(encoding, read=bool(text or pairs), where="--text FILE or --pairs FILE")
    first = folder.info(folder.find(names[0]))
    others = other_data(kinds.load(first.kind), {"text": text, "pairs": pairs}, encoding)
    return compare_runs(names, corpus=others, target=target)


def planned(
    arch: str | None,
    match: Match | None,
    seeds: int,
    given: dict[str, Any],
    files: list[str],
) -> tuple[Contest, AnyCorpus]:
    """Who learns what: of the kinds of data that all can read, and of what the files are named as, what they hold."""
    from charlm.compare.contest import Contest
    from charlm.plan import kinds_for

    able = {kind.name() for kind in kinds.all_kinds()}
    for label in () if arch is None else arch.split(","):
        able &= {*kinds_for(label.strip().partition(":")[0])}
    able.add(kinds.named(files, given.get("encoding", DataSettings().encoding)).name())
    kind, corpus = text_to_train_on(files, None, None, given, able)
    labels = [label.strip() for label in (kind.entrants if arch is None else arch).split(",")]
    chosen: Match = match or ("tokens" if given.keys() & {"epochs", "steps"} else "time")
    return Contest.of(labels, chosen, seeds, given, kind=kind.name()), corpus


def is_run(name: str) -> bool:
    with suppress(RunError):
        folder.find(name)
        return True
    return False


def follow(work: Generator[Event, None, Comparison], jobs: int) -> Comparison:
    """Show the trainings while they run: a bar each on a terminal, else a line at the end of each."""
    from charlm.compare.run import Planned
    from charlm.compare.worker import TrainingEnded, TrainingProgress
    from charlm.events import Note

    task, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[said]}"))
    columns = (task, BarColumn(), state)
    bars: dict[Path, TaskID] = {}
    begun: Planned | None = None
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as shown:
        other = shown.add_task("", total=None, said="")
        try:
            while True:
                event = next(work)
                if isinstance(event, Planned):
                    begun = event
                    shown.update(other, visible=False)
                    tell_begun(event, jobs)
                    bars = {run: shown.add_task(run.name, total=1.0, said="waiting") for run in event.plans}
                    for run in event.done:
                        shown.update(bars[run], completed=1.0, said="done before")
                elif isinstance(event, TrainingProgress):
                    score = f"{event.score.value:.3f} {event.score.measure.unit}" if event.score else ""
                    shown.update(bars[event.path], completed=event.progress, said=f"{event.progress:4.0%}  {score}")
                elif isinstance(event, TrainingEnded):
                    said = f"failed: {event.failure}" if event.failure else "done"
                    shown.update(bars[event.path], completed=1.0, said=said[:60])
                    err.print(f"{event.path.name}: {said}", markup=False)
                elif isinstance(event, Note):
                    note(event.text)
                else:
                    shown.update(other, description=event.what, completed=event.done, total=event.total, visible=True)
        except StopIteration as end:
            made: Comparison = end.value
            return made
        except KeyboardInterrupt:
            if begun:
                err.print(f"\ninterrupted; {begun.path} keeps what was trained: the same command goes on", markup=False)
            raise
        finally:
            work.close()


def tell_begun(event: Planned, jobs: int) -> None:
    left = [plan for run, (_, plan) in event.plans.items() if run not in event.done]
    minutes = sum(plan.train.minutes or 0 for plan in left) / jobs
    time = f", about {minutes:g} minutes" if minutes else ""
    err.print(f"{len(left)} trainings to do{time}; {len(event.done)} done before; in {event.path}", markup=False)
    if event.sized:
        sizes = {label: plan.model.to_dict().get("hidden_size") for label, plan in event.plans.values()}
        err.print("hidden sizes: " + ", ".join(f"{label} {size}" for label, size in sizes.items()), markup=False)
    if jobs > 1:
        err.print(f"{jobs} at once share the processor: speeds are of that", markup=False)


def tell(made: Comparison, along: Along, *, json: bool, csv: bool, markdown: bool) -> None:
    from charlm.cli.curves import by_length, curves
    from charlm.cli.watching import next_command
    from charlm.compare import cells
    from charlm.compare.rows import verdict
    from charlm.plan import Plan

    if json:
        print(jsonlib.dumps(made.to_dict()))
        return
    if csv or markdown:
        print(cells.as_csv(made) if csv else cells.markdown(made))
        return
    if "chrf" in kinds.load(made.kind).figures and all(row.value("chrf") is None for row in made.rows if row.trained):
        note(NO_BLEU)
    titles, lines = cells.lines(made)
    shown = table(titles[0], *(f">{title}" for title in titles[1:]))
    for line in lines:
        if len(line.cells) == 1:
            shown.add_row(line.cells[0], f"failed: {line.note}", style="red")
        else:
            shown.add_row(*cells.marked(line), style="dim" if line.baseline else "")
    out.print(f"\n{made.text['name']}: {made.scored_on}, each once; * is the best of a column\n", markup=False)
    show(shown)
    notes = [f"{line.cells[0]}: {line.note}" for line in lines if line.note and len(line.cells) > 1]
    out.print("\n".join(["", *notes, verdict(made.rows)]), markup=False)
    drawn = {row.label: [each.curve for each in row.trained] for row in made.rows}
    if any(len(curve) > 1 for each in drawn.values() for curve in each):
        out.print(curves(drawn, made.measure, along), markup=False)
    bands = {row.label: row.bands for row in made.rows}
    if any(len(each) > 1 for each in bands.values()):
        out.print(by_length(bands), markup=False)
    first = next((row.trained[0].run for row in made.rows if row.trained), None)
    if first:
        plan = Plan.from_dict(folder.info(first).config)
        out.print(next_command(first, plan), markup=False, soft_wrap=True)
