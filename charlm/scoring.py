"""Scoring a text with a trained run: a held-out part of the run's own text, or another one; and that text itself."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.baselines import LONGEST_TRAIN, LONGEST_VALIDATION, Baselines, baselines
from charlm.config import DataSettings, PairSettings
from charlm.errors import CorpusError, RunError, SettingsError
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.text.corpus import Corpus
from charlm.text.pair_store import PairSplit, PairStore, prepare_pairs
from charlm.text.pairs import PairCorpus, open_text
from charlm.text.store import Split, Store, prepare
from charlm.text.vocabulary import Vocabularies
from charlm.training.evaluate import Score, describe, evaluate, evaluate_pairs
from charlm.writer import NO_TEXT, Writer

BEFORE = 8192  # tokens of the text before a held-out part that are at hand to be read first
KNOWN = 50_000_000  # characters of a training text that are searched for copies: the last ones
DECODED = 1 << 20  # tokens that are decoded at once


class Known(NamedTuple):
    """What a run was trained on."""

    text: str  # its end, if it is longer than `KNOWN`
    chars_before: int  # of the training text, before that
    lines_before: int
    held_out: str  # the validation text, which follows


def score_run(
    run: str | Path,
    *,
    split: str = "val",
    text: Corpus | None = None,
    weights: str = "best",
    device: str = "auto",
    quantize: str | None = None,
) -> Generator[Progress, None, dict[str, Any]]:
    """What `charlm eval` says: the score of `text`, or of the run's own `val` or `test` part, by name.

    With `quantize` it is scored with exact weights as well, and the difference is what 8 bits cost.

    Raises `RunError` if the run's text is gone or changed, and `CorpusError` if the part is empty.
    """
    path = folder.find(run)
    found = folder.info(path)
    config = found.config
    writers = [
        Writer.load(path, weights=weights, device=device, quantize=q)
        for q in ([quantize, None] if quantize else [None])
    ]
    if text:
        read = "".join(text.chunks())
        scorings = [writer.scoring(read) for writer in writers]
    else:
        store = yield from same_store(found, None)
        parts = {"val": (store.validation, store.train), "test": (store.test, store.validation)}
        scorings = [score_split(writer, *parts[split]) for writer in writers]
    scores = []
    for scoring in scorings:
        scores.append((yield from scoring))
    described = describe(writers[-1].model, scores[0], config["arch"])
    if quantize:
        described["bits_per_byte_lost"] = scores[0].bits_per_byte - scores[-1].bits_per_byte
    return described


def score_split(
    writer: Writer, split: Split | PairSplit, before: Split | PairSplit
) -> Generator[Progress, None, Score]:
    """Score a held-out part exactly, given the text that stands before it. Raises `CorpusError` if it is empty."""
    if not len(split):
        another = "--pairs" if isinstance(split, PairSplit) else "--text"
        raise CorpusError(
            f"that part of the text is empty: its share was 0, or the text is too short; give another: {another} FILE"
        )
    if isinstance(split, PairSplit):
        return (yield from evaluate_pairs(writer.model, split))
    assert isinstance(before, Split), "parts of one text"
    context: NDArray[Any] = before.ids[-BEFORE:] if len(before) else np.array([writer.tokenizer.start])
    return (yield from evaluate(writer.model, split.ids, context, chars=split.chars, bytes=split.bytes))


def store_baselines(store: Store | PairStore) -> Baselines | None:
    """What simple methods reach on the validation text; None for pairs, and where nothing is held out."""
    if isinstance(store, PairStore):
        return None
    train, validation = store.train.ids[-LONGEST_TRAIN:], store.validation.ids[:LONGEST_VALIDATION]
    decode = store.tokenizer.decode
    return baselines(decode(train), decode(validation)) if len(validation) else None


def prepare_any(
    corpus: Corpus | PairCorpus, data: DataSettings, cache_dir: Path | None
) -> Generator[Progress, None, Store | PairStore]:
    """A running text or pairs as ids; pairs are few, and not cached. Raises as `prepare` and `prepare_pairs` do."""
    if isinstance(corpus, PairCorpus):
        assert isinstance(data, PairSettings)
        return (yield from prepare_pairs(corpus, data))
    return (yield from prepare(corpus, data, cache_dir))


def same_text(run: RunInfo, cache_dir: Path | None) -> Generator[Progress, None, Store]:
    """`same_store` where only a running text will do. Raises `SettingsError` for a run that was trained on pairs."""
    store = yield from same_store(run, cache_dir)
    if isinstance(store, PairStore):
        raise SettingsError(NO_TEXT)
    return store


def same_store(run: RunInfo, cache_dir: Path | None) -> Generator[Progress, None, Store | PairStore]:
    """The text that a run was trained on, as the ids that it was trained on.

    Raises `RunError` if the text is gone or is not the same any more, or if its vocabulary has become another.
    """
    path, config, plan = run.path, run.config, Plan.from_dict(run.config)
    data, names, targets = plan.data, config["corpus"]["paths"], config["corpus"].get("targets", ())
    if "-" in (*names, *targets) and sys.stdin.isatty():
        another = "--pairs" if run.pairs else "--text"
        raise RunError(f"{path} was trained on standard input; pipe the same in again, or name another with {another}")
    try:
        corpus = open_text(names, targets, data.encoding, pairs=plan.pairs)
    except CorpusError as error:
        raise RunError(f"the text of {path} is needed and cannot be read: {error}") from None
    if corpus.sha256 != config["corpus"]["sha256"]:
        raise RunError(f"{', '.join(names)} changed since {path} was begun; train a new run on it")
    if isinstance(corpus, PairCorpus) and isinstance(data, PairSettings):
        vocabularies = Vocabularies.from_json(folder.read_json(path / "tokenizer.json"))
        return (yield from prepare_pairs(corpus, data, vocabularies))
    assert isinstance(corpus, Corpus)
    store = yield from prepare(corpus, data, cache_dir)
    if store.vocabularies.sha256 != config["tokenizer_sha256"]:
        raise RunError(f"the text of {path} gives another vocabulary with this version of the tokenizer's library")
    return store


def known_text(run: RunInfo) -> Generator[Progress, None, Known]:
    """The text that a run was trained on, and the beginning of its validation text. Raises as `same_store` does."""
    store = yield from same_text(run, None)
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
