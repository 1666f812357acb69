"""Pairs of lines: a source is read, and its target is written."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.config import Lengths, TrainSettings
from charlm.kinds._base import MEMORY, PARAMETERS, TRAINS, WORK, WRITES, Column, Kind, Trial
from charlm.kinds._quality import by_length, quality
from charlm.progress import Progress
from charlm.sampling.settings import TranslateSettings
from charlm.text.corpus import Corpus
from charlm.text.pair_store import PairSettings, PairSplit, PairStore, prepare_pairs
from charlm.text.pairs import PairCorpus, holds_pairs, named_as_pairs
from charlm.text.vocabulary import Vocabularies

GLIMPSE_PAIRS = 4


class Pairs(Kind):
    noun = "pairs of source and target"
    files = "a .tsv or .jsonl file"
    unit = "pairs"
    Settings = PairSettings
    own = ("batch_tokens", "max_length", "share_vocab")
    rows = "pairs"
    has_source = True
    arch = "seq2seq"
    entrants = "seq2seq,seq2seq:attention=none,encdec"
    batch_flags = "--batch-tokens or --max-length"
    batches = {"batch_tokens": PairSettings.batch_tokens, "max_length": PairSettings.max_length}
    on_cuda = {"batch_tokens": 8192}
    figures = ("exact", "bleu", "chrf")
    columns = (
        Column("% exact", "exact", "{:.1f}", more=True, scale=100),
        Column("BLEU", "bleu", "{:.1f}", more=True),
        Column("chrF", "chrf", "{:.1f}", more=True),
        PARAMETERS,
        WORK,
        TRAINS,
        WRITES._replace(title="translates char/s, in batches"),
        MEMORY,
    )
    option = "pairs"
    scored = "{size} pairs to be translated, {bytes} bytes of targets"
    unequal = (
        "--max-length leaves out other pairs in one tokenizer's tokens than in another's; give a larger one, or for "
        "runs that are there give --pairs FILE with pairs that are short enough for all"
    )
    uses = (
        "it reads a source and writes a target; use charlm translate, charlm eval, or "
        "charlm attend --source TEXT --text TEXT"
    )

    @classmethod
    def named(cls, file: str, encoding: str) -> bool:
        return named_as_pairs(file, encoding)

    @classmethod
    def claims(cls, corpus: Corpus) -> bool:
        return holds_pairs(corpus)

    @classmethod
    def of(cls, corpus: Corpus, targets: Corpus | None) -> PairCorpus:
        return PairCorpus(corpus, targets)

    @classmethod
    def prepare(
        cls,
        corpus: PairCorpus,
        settings: PairSettings,
        cache_dir: Path | None,  # noqa: ARG003  pairs are few, and not cached
        vocabularies: Vocabularies | None = None,
    ) -> Generator[Progress, None, PairStore]:
        return (yield from prepare_pairs(corpus, settings, vocabularies))

    @classmethod
    def read(
        cls, corpus: PairCorpus, settings: PairSettings, vocabularies: Vocabularies
    ) -> Generator[Progress, None, PairStore]:
        whole = replace(settings, val_frac=0.0, test_frac=0.0)
        return (yield from prepare_pairs(corpus, whole, vocabularies))

    @classmethod
    def lengths(cls, data: PairSettings, train: TrainSettings) -> Lengths:  # noqa: ARG003
        return Lengths.of_pairs(data.max_length + 1)

    @classmethod
    def size(cls, part: PairSplit) -> int:
        return part.count

    @classmethod
    def glimpse(cls, writer: Any, store: PairStore, seed: int) -> str:  # noqa: ARG003
        """The first held-out pairs: each source, and below it what was written for it."""
        part = store.validation if store.validation.count else store.train
        sources, targets = part.texts(writer.vocabularies, GLIMPSE_PAIRS)
        limit = (
            2 * max(len(writer.tokenizer.encode(target)) for target in targets) + 10
        )  # it may not have learnt yet when to end
        written = writer.translate(sources, limit=limit)
        return "\n".join(f"{source}\n  {best.text}" for source, (best, *_) in zip(sources, written, strict=True))

    @classmethod
    def trial(
        cls, writer: Any, part: PairSplit, settings: TranslateSettings | None = None, like: PairSplit | None = None
    ) -> Generator[Progress, None, Trial]:
        """Score and translate all pairs, in batches."""
        from charlm.objectives.pairs import pair_nats, pair_score  # imports torch

        nats = yield from pair_nats(writer.model, part)
        sources, targets = part.texts(writer.vocabularies)
        began = time.perf_counter()
        translations = yield from writer.translating(sources, settings or TranslateSettings())
        seconds = time.perf_counter() - began
        written = [best.text for best, *_ in translations]
        lengths = (like or part).source.sizes - 1
        return Trial(
            speed=sum(len(line) + 1 for line in written) / seconds,
            score=pair_score(part, nats),
            figures={**quality(written, targets)._asdict(), "pairs": len(written)},
            bands=by_length(lengths, nats, part.target.sizes, written, targets),
            sources=sources,
            targets=targets,
            written=written,
        )

    @classmethod
    def command(cls, network: type) -> str:  # noqa: ARG003
        return "translate"

    @classmethod
    def equal(cls, parts: Sequence[PairSplit]) -> bool:
        """Whether they hold the same pairs of one corpus."""
        return len({part.numbers.tobytes() for part in parts}) < 2

    @classmethod
    def step_size(cls, plan: Any) -> object:
        return plan.train.accumulate, plan.data
