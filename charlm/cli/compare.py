"""`charlm compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm import kinds
from charlm.cli.comparison import print_comparison
from charlm.cli.options import Json, with_settings
from charlm.cli.pictures import save
from charlm.config import Settings, TrainSettings, fields_of
from charlm.errors import SettingsError

if TYPE_CHECKING:
    from charlm.kinds._base import Kind

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
    from charlm.comparing.contest import MINUTES
    from charlm.comparing.entrants import shared_settings
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
    from charlm.comparing.asked import compared
    from charlm.views.comparing import watch_comparison

    trains: Any = {"arch": arch, "starts": init_from, "counts": label_counts, "match": match}
    others: Any = {"text": text, "pairs": pairs}
    work = compared(what or [], seeds, jobs, given, out=folder_, target=target, **trains, **others)
    comparison = watch_comparison(work, jobs)
    print_comparison(comparison, along, json=json, csv=csv, markdown=markdown)
    if html:
        from charlm.comparing.report import page

        save(html, page(comparison).encode("utf-8", "replace"))  # a model may write half a character


def refuse_forms(html: Path | None, *, json: bool, csv: bool, markdown: bool) -> None:
    """Raise `SettingsError` for what could not be written, before hours of training and not after."""
    if sum((json, csv, markdown)) > 1:
        raise SettingsError("--json, --csv and --markdown are different forms; give one of them")
    if html:
        from charlm.comparing.report import check_extra

        check_extra()
        if not html.parent.is_dir():
            raise SettingsError(f"--html {html}: there is no folder {html.parent}; make it first")
