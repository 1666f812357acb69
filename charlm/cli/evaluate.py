"""`charlm eval`."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm import kinds
from charlm.cli.console import note, out, show, table, watch
from charlm.cli.opened import OPENING, naming
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.texts import NO_BLEU, other_data, refuse_idle
from charlm.config import fields_of, take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.sampling.settings import BeamSettings, TranslateSettings

if TYPE_CHECKING:
    from charlm.scoring import Scored


@with_settings({"Translating": BeamSettings, **OPENING}, without={"n_best"})
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
    source: Annotated[
        list[str] | None, typer.Option(help="the same as two files: the sources, a line each", show_default=False)
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="and their targets", show_default=False)] = None,
    encoding: Encoding = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    if bool(split) + bool(text) + bool(pairs) + bool(source or target) > 1:
        raise SettingsError("--split, --text, --pairs and --source with --target are different texts; give one of them")
    info = folder.info(folder.find(run))
    kind = kinds.load(info.kind)
    refuse_idle(encoding, read=bool(text or pairs or source), where="--text FILE, or --pairs FILE")
    others = other_data(kind, {"text": text, "pairs": pairs}, encoding, source, target)
    if not kind.figures and given.keys() & {field.name for field in fields_of(BeamSettings)}:
        raise SettingsError("--beam and --length-penalty are for runs that were trained on pairs")
    from charlm.scoring import score_run

    how, opening = take(TranslateSettings, given), take(Opening, given)
    with naming(run, info.path):
        made = watch(score_run(info.path, split=split or "val", corpus=others, decoding=how, opening=opening))
    for left_out in made.notes:
        note(left_out)
    if json:
        print(jsonlib.dumps(made.to_json()))
    else:
        tell(info.path.name, made)


def tell(name: str, made: Scored) -> None:
    """The figures, and how they depend on the length of the source where that is known."""
    shown = table("", ">")
    for figure, value in {**made.score, **(made.trial.figures if made.trial else {})}.items():
        if value is not None:
            shown.add_row(figure.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    show(shown)
    if made.trial is None:
        return
    if made.trial.figures.get("chrf", 0.0) is None:
        note(NO_BLEU)
    if len(made.trial.bands) > 1:
        from charlm.cli.curves import by_length

        out.print(by_length({name: made.trial.bands}), markup=False)
