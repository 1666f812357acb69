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

from charlm.cli.console import count, err, note, out, show, table
from charlm.cli.options import Json, with_settings
from charlm.cli.pictures import save
from charlm.cli.texts import NO_BLEU, other_pairs, other_text, refuse_idle, text_to_train_on
from charlm.config import DataSettings, PairSettings, TrainSettings, fields_of
from charlm.errors import RunError, SettingsError
from charlm.runs import folder

if TYPE_CHECKING:
    from charlm.cli.curves import Along
    from charlm.compare.contest import Contest, Match
    from charlm.compare.run import Begun, Comparison, Event
    from charlm.text.corpus import Corpus
    from charlm.text.pairs import PairCorpus

DEFAULT, PAIR_DEFAULT = "lstm,gru,seq2seq,transformer", "seq2seq,seq2seq:attention=none,encdec"


def command(argv: Sequence[str]) -> Callable[..., None]:
    """The command; its own help page tells which settings are what suits each architecture."""
    make = partial(
        with_settings, {"Training, the same for all": TrainSettings, "Text": DataSettings, "Pairs": PairSettings}
    )
    if "compare" not in argv[:1] or not {"-h", "--help"} & {*argv}:
        return make()(compare)  # spares the import of torch
    from charlm import archs
    from charlm.compare.contest import ALIKE, MINUTES
    from charlm.plan import RUNNING

    fields = [f for group in (TrainSettings, PairSettings) for f in fields_of(group) if f.name not in ALIKE]
    kinds = [archs.load(name) for name in archs.names()]

    def shared(recipes: list[dict[str, Any]]) -> dict[str, Any]:
        found = {f.name: {recipe.get(f.name, f.default) for recipe in recipes} for f in fields}
        return {name: values.pop() if len(values) == 1 else "what suits each" for name, values in found.items()}

    texts = shared([{**kind.recipe, **more} for kind in kinds for more in ({}, kind.long_recipe)])
    pairs = shared([dict(kind.pair_recipe) for kind in kinds if "pairs" in kind.objectives])
    differing = {name: pairs[name] for name in pairs.keys() - RUNNING if pairs[name] != texts[name]}
    return make({"minutes": MINUTES, **texts}, {"for pairs": differing})(compare)


def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="a text to train on, pairs (.tsv, .jsonl), or runs that are there", show_default=False),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="architectures, with commas; settings of one after colons: lstm:layers=2 "
            f"\\[default: {DEFAULT}; of pairs: {PAIR_DEFAULT}]",
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
        from charlm.compare.report import available  # asked before hours of training, not after

        available()
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
    others = other_pairs(pairs, None, None, encoding)
    return compare_runs(names, text=other_text(text, encoding), pairs=others, target=target)


def planned(
    arch: str | None,
    match: Match | None,
    seeds: int,
    given: dict[str, Any],
    files: list[str],
) -> tuple[Contest, Corpus | PairCorpus]:
    """Who learns what: pairs where the text is named as such, or holds them and all can read them."""
    from charlm.compare.contest import Contest
    from charlm.plan import reads_pairs
    from charlm.text.pairs import PairCorpus, named_as_pairs

    encoding = given.get("encoding", DataSettings().encoding)
    labels = [label.strip() for label in (PAIR_DEFAULT if arch is None else arch).split(",")]
    able = all(reads_pairs(label.partition(":")[0]) for label in labels) or any(
        named_as_pairs(file, encoding) for file in files
    )
    corpus = text_to_train_on(files, None, None, given, pairs=able)
    paired = isinstance(corpus, PairCorpus)
    if arch is None and not paired:
        labels = DEFAULT.split(",")
    chosen: Match = match or ("tokens" if given.keys() & {"epochs", "steps"} else "time")
    return Contest.of(labels, chosen, seeds, given, pairs=paired), corpus


def is_run(name: str) -> bool:
    with suppress(RunError):
        folder.find(name)
        return True
    return False


def follow(work: Generator[Event, None, Comparison], jobs: int) -> Comparison:
    """Show the trainings while they run: a bar each on a terminal, else a line at the end of each."""
    from charlm.compare.run import Begun
    from charlm.compare.worker import Returned, Went
    from charlm.events import Note

    task, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[said]}"))
    columns = (task, BarColumn(), state)
    bars: dict[Path, TaskID] = {}
    begun: Begun | None = None
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as shown:
        other = shown.add_task("", total=None, said="")
        try:
            while True:
                event = next(work)
                if isinstance(event, Begun):
                    begun = event
                    shown.update(other, visible=False)
                    tell_begun(event, jobs)
                    bars = {run: shown.add_task(run.name, total=1.0, said="waiting") for run in event.plans}
                    for run in event.done:
                        shown.update(bars[run], completed=1.0, said="done before")
                elif isinstance(event, Went):
                    bits = f"{event.bits_per_byte:.3f} bits/byte" if event.bits_per_byte is not None else ""
                    shown.update(bars[event.path], completed=event.progress, said=f"{event.progress:4.0%}  {bits}")
                elif isinstance(event, Returned):
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


def tell_begun(event: Begun, jobs: int) -> None:
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

    if json:
        print(jsonlib.dumps(made.to_dict()))
        return
    if csv or markdown:
        print(cells.as_csv(made) if csv else cells.markdown(made))
        return
    if made.pairs and all(row.quality("chrf") is None for row in made.rows if row.trained):
        note(NO_BLEU)
    titles, lines = cells.lines(made)
    shown = table(titles[0], *(f">{title}" for title in titles[1:]))
    for line in lines:
        if len(line.cells) == 1:
            shown.add_row(line.cells[0], f"failed: {line.note}", style="red")
        else:
            shown.add_row(*cells.marked(line), style="dim" if line.simple else "")
    size, number = count(made.text["validation_bytes"]), made.text.get("pairs")
    scored = f"{number} pairs to be translated, {size} bytes of targets" if number else f"{size} bytes to be scored on"
    out.print(f"\n{made.text['name']}: {scored}, each once; * is the best of a column\n", markup=False)
    show(shown)
    notes = [f"{line.cells[0]}: {line.note}" for line in lines if line.note and len(line.cells) > 1]
    out.print("\n".join(["", *notes, verdict(made.rows)]), markup=False)
    drawn = {row.label: [each.curve for each in row.trained] for row in made.rows}
    if any(len(curve) > 1 for each in drawn.values() for curve in each):
        out.print(curves(drawn, along), markup=False)
    bands = {row.label: row.bands for row in made.rows}
    if any(len(each) > 1 for each in bands.values()):
        out.print(by_length(bands), markup=False)
    first = next((row.trained[0].run for row in made.rows if row.trained), None)
    if first:
        out.print(next_command(first, pairs=made.pairs), markup=False, soft_wrap=True)
