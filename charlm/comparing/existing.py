"""Comparing runs that are there, as they are."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from charlm import kinds
from charlm.comparing.measure import measure_run, open_run
from charlm.comparing.rows import Row
from charlm.comparing.run import Comparison, add_extras, common_measure, describe_text
from charlm.errors import RunError, SettingsError
from charlm.events import Note
from charlm.kinds._base import AnyCorpus, AnyStore, Kind
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.scoring import part_to_score


def compare_runs(
    names: Sequence[str], *, corpus: AnyCorpus | None = None, target: float | None = None
) -> Generator[Progress | Note, None, Comparison]:
    """Compare existing runs, on the held-out part that they share, or on another `corpus` of their kind.

    Raises `RunError` if they hold out different data and no other are given, `SettingsError` for runs that do not
    compare.
    """
    infos = [folder.info(folder.find(name)) for name in names]
    kind = common_kind(infos, other=corpus is not None)
    measures = [Plan.from_dict(info.config).objective.measure for info in infos]
    measure = common_measure(measures, [info.config["tokenizer_sha256"] for info in infos])
    same_names = len({info.path.name for info in infos}) < len(infos)
    rows, parts, stores = [], list[Any](), list[AnyStore]()
    for info in infos:
        label, writer = str(info.path) if same_names else info.path.name, open_run(info.path)
        part, store = yield from part_to_score(info, writer.vocabularies, corpus=corpus)
        yield from map(Note, store.notes if corpus and not parts else ())
        parts.append(part if corpus else kind.measured(store))
        stores.append(store)
        if not kind.equal(parts):
            raise RunError(kind.unequal)
        trial = yield from kind.trial(writer, parts[-1], like=parts[0])
        score = trial.score
        if score is None and (corpus or not info.best):
            score = yield from writer.objective.score(writer.model, parts[-1])
        rows.append(Row(label, [measure_run(info.path, trial, score, parts[-1])], []))
    files = [str(path) for path in corpus.paths] if corpus else []
    asked = {"runs": [str(info.path) for info in infos], kind.option: files}
    name = ", ".join(files) if corpus else infos[0].config["corpus"]["name"]
    text = describe_text(kind, name, stores[0], parts[0])
    comparison = Comparison(asked, text, rows, None, target, kind.name(), measure)
    return comparison if corpus else (yield from add_extras(comparison, stores[0]))


def common_kind(infos: Sequence[RunInfo], *, other: bool) -> type[Kind]:
    """The kind of data that all runs were trained on. Raises as `compare_runs` does for runs that do not compare;
    held-out parts may differ if they are scored on `other` data."""
    if len({info.path.resolve() for info in infos}) < len(infos):
        raise SettingsError(f"the same run twice: {', '.join(str(info.path) for info in infos)}")
    first, *others = {info.kind: kinds.load(info.kind) for info in infos}.values()
    if others:
        nouns = " and some on ".join(kind.noun for kind in (first, *others))
        raise SettingsError(f"some of these runs were trained on {nouns}; compare each kind by itself")
    shares = ("val_frac", "test_frac")
    held_out = {(info.config["corpus"]["sha256"], *(info.config["data"][name] for name in shares)) for info in infos}
    if not other and len(held_out) > 1:
        raise RunError(
            f"these runs hold out different texts to be scored on; give one for all with --{first.option} FILE"
        )
    if bare := [info.path for info in infos if not info.training]:
        raise RunError(f"{bare[0]} has no training.json, so nothing tells how it was trained; resume it once")
    return first
