"""Scoring a trained run on a held-out part of its data, or on other data; and reading the data of a run again."""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charlm import kinds
from charlm.errors import CorpusError, RunError
from charlm.evaluate import describe
from charlm.kinds._base import AnyCorpus, AnyStore, Trial
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.prune import zeros
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.runs.opening import Opening
from charlm.text.store import Store
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

SEARCHED = 50_000_000  # last characters of a training text, in which copies are searched for
DECODED = 1 << 20  # tokens per piece when they are decoded


class TrainingText(NamedTuple):
    """The text that a run was trained on."""

    text: str  # its last `SEARCHED` characters
    chars_before: int  # characters of the training text before these
    lines_before: int
    held_out: str  # the beginning of the validation text
    name: str  # of the file, if it is one


class Scored(NamedTuple):
    """The result of `charlm eval`."""

    score: dict[str, Any]  # figures by name
    trial: Trial | None  # what was written and its quality, if kind of data or objective have such figures
    notes: list[str]  # on how other data were read

    def to_json(self) -> dict[str, Any]:
        return {**self.score, **(self.trial.to_json() if self.trial else {})}


def score_run(
    run: str | Path,
    *,
    split: str = "val",
    corpus: AnyCorpus | None = None,
    decoding: Any = None,
    opening: Opening | None = None,
) -> Generator[Progress, None, Scored]:
    """Score the run on `corpus`, data of the kind that it was trained on, or on its own `val` or `test` part.

    `decoding` are settings for writing translations, or restored text. With int8 weights the run is scored with the
    exact weights as well, and the difference is reported.

    Raises `RunError` if the run's data are gone or changed, `CorpusError` if the part is empty, `VocabularyError` for
    characters that the run cannot spell.
    """
    path, opening = folder.find(run), opening or Opening()
    info, writer = folder.info(path), Writer.load(path, opening)
    kind, trial = kinds.load(info.kind), None
    part, store = yield from part_to_score(info, writer.vocabularies, split=split, corpus=corpus)
    if kind.figures or writer.objective.figures:
        trial = yield from kind.trial(writer, part, decoding)
    score = trial.score if trial else None
    if score is None:
        score = yield from writer.objective.score(writer.model, part)
    exact = Writer.load(path, replace(opening, quantize=None)) if opening.quantize else writer
    figures = describe(exact.model, score, info.config["arch"])  # rounded weights are no parameters to be counted
    if zero := zeros(exact.model):
        figures["nonzero"] = figures["params"] - zero
    if opening.quantize:
        exact_score = yield from exact.objective.score(exact.model, part)
        figures[f"{score.measure.name}_lost"] = score.value - exact_score.value
    return Scored(figures, trial, store.notes if corpus else [])


def part_to_score(
    run: RunInfo, vocabularies: Vocabularies, *, split: str = "val", corpus: AnyCorpus | None = None
) -> Generator[Progress, None, tuple[Any, AnyStore]]:
    """(part, store): all of `corpus` as token ids of the run's vocabulary, or the run's own `val` or `test` part.

    Raises as `score_run` does.
    """
    kind = kinds.load(run.kind)
    if corpus is not None:
        store = yield from kind.read(corpus, Plan.from_dict(run.config).data, vocabularies)
        return store.train, store
    store = yield from run_data(run)
    part = {"val": store.validation, "test": store.test}[split]
    if not len(part):
        raise CorpusError(
            "that part of the text is empty: its share was 0, or the text is too short; "
            f"give another: --{kind.option} FILE"
        )
    return part, store


def run_data(run: RunInfo, cache_dir: Path | None = None) -> Generator[Progress, None, AnyStore]:
    """The data that a run was trained on, as token ids in three parts, read again from the files.

    Raises `RunError` if the files are gone or changed, or if there are none, as the weights came from elsewhere.
    """
    path, config, plan = run.path, run.config, Plan.from_dict(run.config)
    kind, paths, targets = kinds.load(run.kind), config["corpus"]["paths"], config["corpus"]["targets"]
    if not paths:
        raise RunError(
            f"{path} was imported without the text that it was trained on; name one with --{kind.option} FILE, or "
            f"train it on one: charlm train FILE --init-from {path}"
        )
    if "-" in (*paths, *targets) and sys.stdin.isatty():
        raise RunError(
            f"{path} was trained on standard input; pipe the same in again, or name another with --{kind.option}"
        )
    try:
        corpus = kind.open(paths, targets, plan.data.encoding)
        yield from corpus.survey()
    except CorpusError as error:
        raise RunError(f"the text of {path} is needed and cannot be read: {error}") from None
    if corpus.sha256 != config["corpus"]["sha256"]:
        raise RunError(f"{', '.join(paths)} changed since {path} was begun; train a new run on it")
    vocabularies = Vocabularies.from_json(folder.read_json(path / "tokenizer.json"))
    return (yield from kind.prepare(corpus, plan.data, cache_dir, vocabularies))


def run_text(run: RunInfo) -> Generator[Progress, None, Store]:
    """`run_data` of a run on running text. Raises `SettingsError` for a run on another kind of data."""
    kinds.refuse_another(run.kind, kinds.TEXT)
    store: Any = yield from run_data(run)
    return store  # type: ignore[no-any-return]


def training_text(run: RunInfo) -> Generator[Progress, None, TrainingText]:
    """The text that a run was trained on, and the beginning of its validation text. Raises as `run_text` does."""
    store = yield from run_text(run)
    train, tokenizer = store.train, store.tokenizer
    first = max(0, len(train) - SEARCHED * len(train) // max(train.chars, 1))
    newlines = np.array([token.count(b"\n") for token in tokenizer.tokens])
    lines = sum(int(newlines[train.ids[i : min(i + DECODED, first)]].sum()) for i in range(0, first, DECODED))
    decoder, pieces = tokenizer.decoder(), []
    for i in range(first, len(train), DECODED):
        pieces.append(decoder.feed(*train.ids[i : i + DECODED].tolist()))
        yield Progress("reading the training text", i - first, len(train) - first)
    text = "".join(pieces)
    held_out = tokenizer.decode(store.validation.ids[:DECODED].tolist())
    paths = run.config["corpus"]["paths"]
    name = paths[0] if len(paths) == 1 else "the training text"
    return TrainingText(text, train.chars - len(text) if first else 0, lines, held_out, name)
