"""`charlm compare`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm import kinds
from charlm.cli.comparison import print_comparison
from charlm.cli.contesting import show_progress
from charlm.cli.options import Json, with_settings
from charlm.cli.pictures import save
from charlm.cli.texts import other_data, refuse_unused, text_to_train_on
from charlm.config import DataSettings, Settings, TrainSettings, fields_of
from charlm.errors import RunError, SettingsError
from charlm.runs import folder

if TYPE_CHECKING:
    from charlm.compare.contest import Contest, Match
    from charlm.compare.run import Comparison, Event
    from charlm.kinds._base import AnyCorpus, Kind

DEFAULTS = "; of ".join(
    f"{kind.name()}: {kind.entrants}" if kind.name() != kinds.TEXT else kind.entrants for kind in kinds.all_kinds()
)

What = Annotated[
    list[str] | None,
    typer.Argument(help="a text to train on, pairs, labels (.tsv, .jsonl), or runs that are there", show_default=False),
]
Archs = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="architectures and presets, with commas; settings of one after colons: lstm:layers=2; family: every form "
        f"of the transformer, small \\[default: {DEFAULTS}]",
        show_default=False,
    ),
]
Starts = Annotated[
    str | None,
    typer.Option(
        "--init-from",
        help="runs with whose weights their architecture starts, with commas; none: the same network with drawn "
        "weights and a tokenizer of this file; without --arch all architectures of the runs",
        show_default=False,
    ),
]
Counts = Annotated[
    str | None,
    typer.Option(
        "--label-counts",
        help="labelled texts to learn from, with commas, or all: each model learns from each number, and all are "
        "scored on the same texts",
        show_default=False,
        rich_help_panel="Labels",
    ),
]
Equal = Annotated[
    Literal["time", "tokens", "params", "work"] | None,
    typer.Option(
        "--match",
        help="what is equal: time (--minutes), text read (--epochs, --steps), or the models' sizes as well: their "
        "parameters, or their work, in multiply-adds per token \\[default: by the budget given]",
        show_default=False,
    ),
]
Seeds = Annotated[int, typer.Option(help="trainings of each, with seeds that follow each other", min=1, max=1000)]
Jobs = Annotated[int, typer.Option(help="trainings at once, which share the processor", min=1, max=1000)]
TargetBits = Annotated[
    float | None,
    typer.Option("--target-bits", help="bits per byte: show when each came there", show_default=False),
]
OtherTexts = Annotated[
    list[str] | None, typer.Option("--text", help="of runs: score all on this text instead", show_default=False)
]
OtherPairs = Annotated[
    list[str] | None,
    typer.Option("--pairs", help="of runs that translate: on these pairs instead", show_default=False),
]
Along = Annotated[Literal["time", "tokens", "steps"], typer.Option(help="what the learning curves are drawn along")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="folder for the runs \\[default: a new one under runs/]", show_default=False),
]
Html = Annotated[
    Path | None, typer.Option(help="save a report with curves and samples (extra: report)", show_default=False)
]
Csv = Annotated[bool, typer.Option("--csv", help="as CSV, a line per training")]
Markdown = Annotated[bool, typer.Option("--markdown", help="as a Markdown table")]


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
    from charlm.compare.contest import MINUTES
    from charlm.compare.entrants import shared_settings
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
    what: What = None,
    arch: Archs = None,
    init_from: Starts = None,
    label_counts: Counts = None,
    match: Equal = None,
    seeds: Seeds = 1,
    jobs: Jobs = 1,
    target: TargetBits = None,
    text: OtherTexts = None,
    pairs: OtherPairs = None,
    along: Along = "time",
    folder_: Out = None,
    html: Html = None,
    json: Json = False,
    csv: Csv = False,
    markdown: Markdown = False,
    *,
    given: dict[str, Any],
) -> None:
    refuse_forms(html, json=json, csv=csv, markdown=markdown)
    trains: Any = {"arch": arch, "starts": init_from, "counts": label_counts, "match": match}
    if what and any(map(is_run, what)):
        encoding = given.pop("encoding", None)
        if any(value is not None for value in trains.values()) or given or seeds > 1 or jobs > 1 or folder_:
            raise SettingsError("these are runs: they are compared as they are, without --arch and its training")
        work = compare_existing(what, text, pairs, target, encoding)
    else:
        refuse_untrainable(what, text, pairs)
        from charlm.compare.run import train_and_compare

        contest, corpus = make_contest(what or [], seeds, given, **trains)
        work = train_and_compare(contest, corpus, out=folder_, jobs=jobs, target=target)
    comparison = show_progress(work, jobs)
    print_comparison(comparison, along, json=json, csv=csv, markdown=markdown)
    if html:
        from charlm.compare.report import page

        save(html, page(comparison).encode("utf-8", "replace"))  # a model may write half a character


def refuse_forms(html: Path | None, *, json: bool, csv: bool, markdown: bool) -> None:
    """Raise `SettingsError` for what could not be written, before hours of training and not after."""
    if sum((json, csv, markdown)) > 1:
        raise SettingsError("--json, --csv and --markdown are different forms; give one of them")
    if html:
        from charlm.compare.report import check_extra

        check_extra()
        if not html.parent.is_dir():
            raise SettingsError(f"--html {html}: there is no folder {html.parent}; make it first")


def refuse_untrainable(what: list[str] | None, text: list[str] | None, pairs: list[str] | None) -> None:
    """Raise `SettingsError` if there is nothing to train on, or other data to be scored on."""
    if text or pairs:
        raise SettingsError("--text and --pairs are for runs; what is trained here is scored on its own held-out part")
    if not what:
        raise SettingsError("what is to be compared? charlm compare FILE trains on it; charlm compare RUN RUN")


def compare_existing(
    names: list[str], text: list[str] | None, pairs: list[str] | None, target: float | None, encoding: str | None
) -> Generator[Event, None, Comparison]:
    """Compare existing runs, on their own held-out part or on other data."""
    from charlm.compare.existing import compare_runs

    if text and pairs:
        raise SettingsError("--text and --pairs are different texts; give one of them")
    refuse_unused(encoding, read=bool(text or pairs), advice="--text FILE or --pairs FILE")
    first = folder.info(folder.find(names[0]))
    others = other_data(kinds.load(first.kind), {"text": text, "pairs": pairs}, encoding)
    return compare_runs(names, corpus=others, target=target)


def make_contest(
    files: list[str],
    seeds: int,
    given: dict[str, Any],
    *,
    arch: str | None,
    starts: str | None,
    counts: str | None,
    match: Match | None,
) -> tuple[Contest, AnyCorpus]:
    """The contest and the data in `files`: of a kind that all the architectures read, or that the files' names say."""
    from charlm.compare.contest import Contest
    from charlm.compare.entrants import NONE, entrants, labels, listed
    from charlm.plan import kinds_for

    names, runs = labels(arch), listed(starts)
    readable = {kind.name() for kind in kinds.all_kinds()}
    for entrant in entrants(names, runs) if names or runs else ():
        readable &= {*kinds_for(entrant.arch)}
    readable.add(kinds.named(files, given.get("encoding", DataSettings().encoding)).name())
    kind, corpus = text_to_train_on(files, None, None, given, readable)
    equal: Match = match or ("tokens" if given.keys() & {"epochs", "steps"} else "time")
    names = names or ([] if {*runs} - {NONE} else labels(kind.entrants))
    wanted: Any = {"kind": kind.name(), "starts": runs, "counts": listed(counts)}
    return Contest.of(names, equal, seeds, given, **wanted), corpus


def is_run(name: str) -> bool:
    with suppress(RunError):
        folder.find(name)
        return True
    return False
