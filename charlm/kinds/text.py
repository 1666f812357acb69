"""Running text: a model continues what it has read."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from charlm.baselines import LONGEST_TRAIN, LONGEST_VALIDATION, Baselines, baselines
from charlm.config import DataSettings, TrainSettings
from charlm.errors import SettingsError
from charlm.kinds._base import MEMORY, PARAMETERS, TRAINS, WORK, WRITES, Column, Kind, Trial
from charlm.kinds._restored import restore_part, restored_glimpse
from charlm.progress import Progress
from charlm.sampling.settings import Request
from charlm.text.corpus import Corpus
from charlm.text.store import Split, Store, prepare
from charlm.text.tokenizers import utf8
from charlm.text.vocabulary import Vocabularies

GLIMPSE_TOKENS, GLIMPSE_SECONDS = 300, 0.4  # whichever is reached first
TIMED_SECONDS, WARM_UP_TOKENS = 1.0, 20  # of writing
SAMPLE_TOKENS, PASSAGE_TOKENS = 400, 600  # on a page: a sample of a model, and a passage of the text


class Text(Kind):
    noun = "running text"
    long = "long"
    entrants = "lstm,gru,seq2seq,transformer"
    columns = (
        Column("nats/char", "nats_per_char", "{:.4f}", more=False),
        PARAMETERS,
        WORK,
        TRAINS,
        WRITES,
        MEMORY,
        Column("context", "context", "{:,.0f}"),
    )
    unequal = (
        "these runs read different texts out of the same file, so their scores do not compare; train them with the "
        "same --alphabet"
    )
    uses = "it goes on with a text, and neither translates nor classifies; see charlm sample"

    @classmethod
    def prepare(
        cls,
        corpus: Corpus,
        settings: DataSettings,
        cache_dir: Path | None,
        vocabularies: Vocabularies | None = None,
    ) -> Generator[Progress, None, Store]:
        return (yield from prepare(corpus, settings, cache_dir, vocabularies))

    @classmethod
    def read(
        cls,
        corpus: Corpus,
        settings: DataSettings,  # noqa: ARG003
        vocabularies: Vocabularies,
    ) -> Generator[Progress, None, Store]:
        yield from corpus.survey()
        text = "".join(corpus.chunks())
        if not text:
            raise SettingsError("there is no text to score: it is empty")
        ids = vocabularies.target.encode(text).astype(np.min_scalar_type(vocabularies.target.vocab_size - 1))
        start = np.array([vocabularies.target.start])
        whole, none = Split(ids, start, len(text), len(utf8(text))), Split(ids[:0], start, 0, 0)
        return Store(vocabularies, whole, none, none, corpus.sha256, corpus.notes)

    @classmethod
    def shortened(cls, store: Store, train: TrainSettings) -> str:
        used = store.batches(train)
        if (used.seq_len, used.batch_size) == (train.seq_len, train.batch_size):
            return ""
        return (
            f"the training text holds only {len(store.train)} tokens: "
            f"sequences of {used.seq_len} (asked: {train.seq_len}), {used.batch_size} per batch ({train.batch_size})"
        )

    @classmethod
    def glimpse(cls, writer: Any, store: Store, seed: int) -> str:
        """Cut short after `GLIMPSE_SECONDS`."""
        if writer.can_restore:
            return restored_glimpse(writer, store.validation if len(store.validation) else store.train)
        if not writer.can_continue:
            return ""
        began, texts = time.monotonic(), []
        for piece in writer.pieces(Request(length=GLIMPSE_TOKENS, seed=seed), logits=False):
            texts.append(piece.texts[0])
            if time.monotonic() - began > GLIMPSE_SECONDS:
                break
        return "".join(texts)

    @classmethod
    def baselines(cls, store: Store) -> Baselines | None:
        train, validation = store.train.ids[-LONGEST_TRAIN:], store.validation.ids[:LONGEST_VALIDATION]
        decode = store.tokenizer.decode
        return baselines(decode(train), decode(validation)) if len(validation) else None

    @classmethod
    def trial(
        cls,
        writer: Any,
        part: Split,
        settings: Any = None,
        like: Split | None = None,  # noqa: ARG003
    ) -> Generator[Progress, None, Trial]:
        """The speed of writing one text; of a run that restores, what it makes of the part once that is damaged."""
        if writer.can_restore:
            return (yield from restore_part(writer, part, settings))
        if not writer.can_continue:
            return Trial()
        yield Progress("writing", 0, 1)
        pieces, chars = writer.pieces(Request(length=0, seed=0), logits=False), 0
        for _ in range(WARM_UP_TOKENS):
            next(pieces)
        began = time.perf_counter()
        while (spent := time.perf_counter() - began) < TIMED_SECONDS:
            chars += len(next(pieces).texts[0])
        return Trial(speed=chars / spent)

    @classmethod
    def command(cls, network: type) -> str:
        from charlm.model import LanguageModel  # imports torch

        return "sample" if issubclass(network, LanguageModel) else "eval"

    @classmethod
    def passage(cls, store: Store) -> str:
        return store.tokenizer.decoder().feed(*store.validation.ids[:PASSAGE_TOKENS].tolist())

    @classmethod
    def sample(cls, writer: Any) -> str:
        return str(writer.sample(length=SAMPLE_TOKENS)) if writer.can_continue else ""

    @classmethod
    def level(cls, plans: Sequence[Any], stores: Sequence[Store]) -> list[Any]:
        """Give all the fewest rows that any has: their number decides where in the text they are."""
        rows = min(store.batches(plan.train).batch_size for plan, store in zip(plans, stores, strict=True))
        return [replace(plan, train=replace(plan.train, batch_size=rows)) for plan in plans]
