"""`charlm eval`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm.cli.console import note, out, show, table, watch
from charlm.cli.options import Device, Encoding, Json, Quantize, Run, Weights, naming, with_settings
from charlm.cli.texts import NO_BLEU, decoding, other_pairs, other_text, refuse_idle
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.sampling.settings import TranslateSettings

if TYPE_CHECKING:
    from charlm.text.pairs import PairCorpus


@with_settings({"Translating": TranslateSettings})
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
    weights: Weights = "best",
    device: Device = "auto",
    quantize: Quantize = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    if bool(split) + bool(text) + bool(pairs) + bool(source or target) > 1:
        raise SettingsError("--split, --text, --pairs and --source with --target are different texts; give one of them")
    found = folder.info(folder.find(run))
    how: dict[str, Any] = {"split": split or "val", "weights": weights, "device": device, "quantize": quantize}
    refuse_idle(encoding, read=bool(text or pairs or source), where="--text FILE, or --pairs FILE")
    others = other_pairs(pairs, source, target, encoding)
    if others or found.pairs:
        if text:
            raise SettingsError("this run was trained on pairs; score others with --pairs FILE")
        with naming(run, found.path):
            translated(found.path, others, decoding(given), how, json=json)
        return
    if given:
        raise SettingsError("--beam and --length-penalty are for runs that were trained on pairs")
    from charlm.scoring import score_run

    with naming(run, found.path):
        tell(watch(score_run(found.path, text=other_text(text, encoding), **how)), json=json)


def translated(
    run: Path, pairs: PairCorpus | None, settings: TranslateSettings, how: dict[str, Any], *, json: bool
) -> None:
    """Score and translate, and draw how that depends on the length of the source."""
    from charlm.translation import score_pairs

    made = watch(score_pairs(run, pairs=pairs, settings=settings, **how))
    for left_out in made.notes:
        note(left_out)
    said = made.to_json()
    bands = said.pop("by_source_length")
    tell(said | ({"by_source_length": bands} if json else {}), json=json)
    if json:
        return
    if made.quality.chrf is None:
        note(NO_BLEU)
    if len(bands) > 1:
        from charlm.cli.curves import by_length

        out.print(by_length({run.name: made.bands}), markup=False)


def tell(values: dict[str, Any], *, json: bool) -> None:
    if json:
        print(jsonlib.dumps(values))
        return
    shown = table("", ">")
    for name, value in values.items():
        if value is not None:
            shown.add_row(name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    show(shown)
