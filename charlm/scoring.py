"""Scoring with a trained run: a held-out part of the data it was trained on, or other data; and those data."""

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
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.runs.opening import Opening
from charlm.text.store import Store
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

KNOWN = 50_000_000  # characters of a training text that are searched for copies: the last ones
DECODED = 1 << 20  # tokens that are decoded at once


class Known(NamedTuple):
    """What a run was trained on."""

    text: str  # its end, if it is longer than `KNOWN`
    chars_before: int  # of the training text, before that
    lines_before: int
    held_out: str  # the validation text, which follows


class Scored(NamedTuple):
    """What `charlm eval` says."""

    score: dict[str, Any]  # by name
    trial: Trial | None  # what the run wrote, where that tells more than how fast it is
    notes: list[str]  # of how other data were read

    def to_json(self) -> dict[str, Any]:
        return {**self.score, **(self.trial.to_json() if self.trial else {})}


def score_run(
    run: str | Path,
    *,
    split: str = "val",
    corpus: AnyCorpus | None = None,
    how: Any = None,
    opening: Opening | None = None,
) -> Generator[Progress, None, Scored]:
    """Score `corpus`, of the kind that the run was trained on, or the run's own `val` or `test` part.

    `how` says how it writes where it is made to, as settings. With rounded weights it is scored with exact ones as
    well, and the difference is what 8 bits cost.

    Raises `RunError` if the run's data are gone or changed, `CorpusError` if the part is empty, `VocabularyError` for
    characters that the run cannot spell.
    """
    path, opening = folder.find(run), opening or Opening()
    info, writer = folder.info(path), Writer.load(path, opening)
    kind, trial = kinds.load(info.kind), None
    part, store = yield from part_to_score(info, writer.vocabularies, split=split, corpus=corpus)
    if kind.figures:
        trial = yield from kind.trial(writer, part, how)
    score = trial.score if trial else None
    if score is None:
        score = yield from writer.objective.score(writer.model, part)
    described = describe(writer.model, score, info.config["arch"])
    if opening.quantize:
        whole = Writer.load(path, replace(opening, quantize=None))
        exact = yield from whole.objective.score(whole.model, part)
        described = describe(whole.model, score, info.config["arch"])
        described[f"{score.measure.name}_lost"] = score.value - exact.value
    return Scored(described, trial, store.notes if corpus else [])


def part_to_score(
    run: RunInfo, vocabularies: Vocabularies, *, split: str = "val", corpus: AnyCorpus | None = None
) -> Generator[Progress, None, tuple[Any, AnyStore]]:
    """All of `corpus` as a run reads it, or its own `val` or `test` part; and the whole that it is part of."""
    kind = kinds.load(run.kind)
    if corpus is not None:
        store = yield from kind.read(corpus, Plan.from_dict(run.config).data, vocabularies)
        return store.train, store
    store = yield from same_store(run)
    part = {"val": store.validation, "test": store.test}[split]
    if not len(part):
        raise CorpusError(
            "that part of the text is empty: its share was 0, or the text is too short; "
            f"give another: --{kind.option} FILE"
        )
    return part, store


def same_store(run: RunInfo, cache_dir: Path | None = None) -> Generator[Progress, None, AnyStore]:
    """The data that a run was trained on, as the ids that it was trained on.

    Raises `RunError` if they are gone or are not the same any more, or if their vocabulary has become another.
    """
    path, config, plan = run.path, run.config, Plan.from_dict(run.config)
    kind, names, targets = kinds.load(run.kind), config["corpus"]["paths"], config["corpus"]["targets"]
    if "-" in (*names, *targets) and sys.stdin.isatty():
        raise RunError(
            f"{path} was trained on standard input; pipe the same in again, or name another with --{kind.option}"
        )
    try:
        corpus = kind.open(names, targets, plan.data.encoding)
        yield from corpus.survey()
    except CorpusError as error:
        raise RunError(f"the text of {path} is needed and cannot be read: {error}") from None
    if corpus.sha256 != config["corpus"]["sha256"]:
        raise RunError(f"{', '.join(names)} changed since {path} was begun; train a new run on it")
    vocabularies = Vocabularies.from_json(folder.read_json(path / "tokenizer.json"))
    store = yield from kind.prepare(corpus, plan.data, cache_dir, vocabularies)
    if store.vocabularies.sha256 != config["tokenizer_sha256"]:
        raise RunError(f"the text of {path} gives another vocabulary with this version of the tokenizer's library")
    return store


def same_text(run: RunInfo) -> Generator[Progress, None, Store]:
    """`same_store` where only a running text will do. Raises `SettingsError` for a run that was trained on another."""
    kinds.refuse_another(run.kind, kinds.TEXT)
    store: Any = yield from same_store(run)
    return store  # type: ignore[no-any-return]


def known_text(run: RunInfo) -> Generator[Progress, None, Known]:
    """The text that a run was trained on, and the beginning of its validation text. Raises as `same_text` does."""
    store = yield from same_text(run)
    train, tokenizer = store.train, store.tokenizer
    first = max(0, len(train) - KNOWN * len(train) // max(train.chars, 1))
    newlines = np.array([token.count(b"\n") for token in tokenizer.tokens])
    lines = sum(int(newlines[train.ids[at : min(at + DECODED, first)]].sum()) for at in range(0, first, DECODED))
    decoder, pieces = tokenizer.decoder(), []
    for at in range(first, len(train), DECODED):
        pieces.append(decoder.feed(*train.ids[at : at + DECODED].tolist()))
        yield Progress("reading the training text", at - first, len(train) - first)
    text = "".join(pieces)
    return Known(
        text, train.chars - len(text) if first else 0, lines, tokenizer.decode(store.validation.ids[:DECODED].tolist())
    )
