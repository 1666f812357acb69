"""`charlm eval`."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm import kinds
from charlm.asking import other_data, refuse_unused
from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.texts import NO_BLEU
from charlm.config import fields_of, take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.sampling.settings import BeamSettings, TranslateSettings
from charlm.views.console import note, out, show, table, watch

if TYPE_CHECKING:
    from rich.table import Table

    from charlm.kinds._base import Confusion, Kind
    from charlm.runs.folder import RunInfo
    from charlm.scoring import Scored


@with_settings({"Translating, restoring": BeamSettings, **OPENING}, without={"n_best"})
def evaluate(
    run: Run = "last",
    split: Annotated[
        Literal["val", "test"] | None,
        typer.Option(help="held-out part of the run's own text \\[default: val]", show_default=False),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="another text: a file, folder or pattern, or - for standard input", show_default=False),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="of a run that translates: other pairs, a .tsv or .jsonl file", show_default=False),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="of a run that classifies: other labelled texts, .tsv, .csv or .jsonl", show_default=False),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="pairs as two files: the sources, a line each", show_default=False)
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="and their targets", show_default=False)] = None,
    encoding: Encoding = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    if bool(split) + bool(text) + bool(pairs) + bool(labels) + bool(source or target) > 1:
        raise SettingsError(
            "--split, --text, --pairs, --labels and --source with --target are different texts; give one of them"
        )
    info = folder.info(folder.find(run))
    kind = kinds.load(info.kind)
    refuse_unused(encoding, read=bool(text or pairs or labels or source), advice="--text, --pairs or --labels FILE")
    others = other_data(kind, {"text": text, "pairs": pairs, "labels": labels}, encoding, source, target)
    if given.keys() & {field.name for field in fields_of(BeamSettings)} and not writes(info, kind):
        raise SettingsError("--beam and --length-penalty are for runs that translate or restore")
    from charlm.scoring import score_run

    decoding, opening = take(TranslateSettings, given), take(Opening, given)
    with errors_name_run(run, info.path):
        scored = watch(score_run(info.path, split=split or "val", corpus=others, decoding=decoding, opening=opening))
    for message in scored.notes:
        note(message)
    if json:
        print(jsonlib.dumps(scored.to_json()))
    else:
        print_scores(info.path.name, scored)


def writes(info: RunInfo, kind: type[Kind]) -> bool:
    """Whether a run is also judged by what it writes."""
    from charlm import objectives

    return kind.has_source or any(objectives.load(name).figures for name in info.config["objective"])


def print_scores(name: str, scored: Scored) -> None:
    """Print the figures, and a curve of quality by source length where there is one."""
    figures = table("", ">")
    for figure, value in {**scored.score, **(scored.trial.figures if scored.trial else {})}.items():
        if value is not None:
            figures.add_row(figure.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    show(figures)
    if scored.trial is None:
        return
    if scored.trial.figures.get("chrf", 0.0) is None:
        note(NO_BLEU)
    if scored.trial.confusion:
        show(confusion_table(scored.trial.confusion))
    if len(scored.trial.bands) > 1:
        from charlm.views.curves import by_length

        out.print(by_length({name: scored.trial.bands}), markup=False)


def confusion_table(confusion: Confusion) -> Table:
    """How many texts of each class were taken for each class."""
    grid = table("is, and was taken for", *(f">{name}" for name in confusion.classes))
    for name, counts in zip(confusion.classes, confusion.counts, strict=True):
        grid.add_row(name, *map(str, counts))
    return grid
