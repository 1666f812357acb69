"""How well a run translates: pairs that it did not learn from, scored and translated, all together and by length.

BLEU: Papineni et al. 2002, doi:10.3115/1073083.1073135; chrF: Popović 2015, doi:10.18653/v1/W15-3049; both by sacrebleu
(Post 2018, arXiv:1804.08771) on the text as it is, 0 to 100.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.config import PairSettings
from charlm.errors import SettingsError
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.sampling.settings import TranslateSettings
from charlm.scoring import same_store
from charlm.text.pair_store import PairSplit, PairStore, prepare_pairs
from charlm.text.pairs import PairCorpus
from charlm.training.evaluate import describe, evaluate_pairs, pair_nats, pair_score
from charlm.writer import Writer

BANDS = 10  # of source lengths, at most


class Quality(NamedTuple):
    """Translations against what should have been written."""

    exact: float  # share of those that are equal to it
    bleu: float | None  # None without sacrebleu, and where no target has four words
    bleu_lower: float | None  # both sides in small letters
    chrf: float | None


class Band(NamedTuple):
    """Pairs whose sources have so many tokens."""

    shortest: int
    longest: int
    pairs: int
    nats_per_token: float
    exact: float
    bleu: float | None
    chrf: float | None


class Translated(NamedTuple):
    """Pairs with what was written for them."""

    score: dict[str, Any]  # as of running text; bits and nats are of the targets, given their sources
    quality: Quality
    bands: list[Band]
    sources: list[str]
    targets: list[str]
    written: list[str]
    seconds: float  # that writing took
    notes: list[str]  # of pairs that were left out

    @property
    def chars_per_second(self) -> float:
        return sum(len(line) + 1 for line in self.written) / self.seconds

    def to_json(self) -> dict[str, Any]:
        bands = [band._asdict() for band in self.bands]
        return {**self.score, **self.quality._asdict(), "pairs": len(self.written), "by_source_length": bands}


def score_pairs(
    run: str | Path,
    *,
    split: str = "val",
    pairs: PairCorpus | None = None,
    settings: TranslateSettings | None = None,
    weights: str = "best",
    device: str = "auto",
    quantize: str | None = None,
) -> Generator[Progress, None, Translated]:
    """Score and translate `pairs`, or the run's own `val` or `test` part.

    Raises `SettingsError` for a run that was not trained on pairs, and an empty part; `RunError` if its own pairs are
    gone or changed; `VocabularyError` for characters that it cannot spell.
    """
    found = folder.info(folder.find(run))
    writer = Writer.load(found.path, weights=weights, device=device, quantize=quantize)
    part, notes = yield from part_to_score(found, writer, split=split, pairs=pairs)
    translated = yield from translated_part(writer, part, settings or TranslateSettings(), found.config["arch"])
    if quantize:
        exact = Writer.load(found.path, weights=weights, device=device)
        score = yield from evaluate_pairs(exact.model, part)
        translated.score["bits_per_byte_lost"] = translated.score["bits_per_byte"] - score.bits_per_byte
    return translated._replace(notes=notes)


def part_to_score(
    run: RunInfo, writer: Writer, *, split: str = "val", pairs: PairCorpus | None = None
) -> Generator[Progress, None, tuple[PairSplit, list[str]]]:
    """`pairs` as the run reads them, or its own `val` or `test` part; and what was left out. Raises as that."""
    data = Plan.from_dict(run.config).data
    if not isinstance(data, PairSettings):
        raise SettingsError(
            f"{run.path} was trained on a running text and translates nothing; score it with --text FILE"
        )
    if pairs is not None:
        whole = replace(data, val_frac=0.0, test_frac=0.0)
        store = yield from prepare_pairs(pairs, whole, writer.vocabularies)
        return store.train, store.notes
    own = yield from same_store(run, None)
    assert isinstance(own, PairStore)
    part = own.validation if split == "val" else own.test
    if not part.count:
        raise SettingsError("that part holds no pair: its share was 0, or there are too few")
    return part, []


def translated_part(
    writer: Writer,
    part: PairSplit,
    settings: TranslateSettings,
    arch: str,
    lengths: NDArray[np.int64] | None = None,
) -> Generator[Progress, None, Translated]:
    """`lengths` (pairs,) are those of the sources for the bands; by default in this run's own tokens."""
    nats = yield from pair_nats(writer.model, part)
    score = pair_score(part, nats)
    sources, references = part.texts(writer.vocabularies)
    began = time.perf_counter()
    hypotheses = yield from writer.translating(sources, settings)
    seconds = time.perf_counter() - began
    written = [best.text for best, *_ in hypotheses]
    sizes = part.source.sizes - 1 if lengths is None else lengths
    return Translated(
        score=describe(writer.model, score, arch),
        quality=quality(written, references),
        bands=by_length(sizes, nats, part.target.sizes, written, references),
        sources=sources,
        targets=references,
        written=written,
        seconds=seconds,
        notes=[],
    )


def quality(written: Sequence[str], references: Sequence[str]) -> Quality:
    exact = sum(a == b for a, b in zip(written, references, strict=True)) / len(written)
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        return Quality(exact, None, None, None)

    def score(metric: Any) -> float:
        return float(metric.corpus_score(list(written), [list(references)]).score)

    if not any(len(reference.split()) >= 4 for reference in references):  # BLEU counts runs of up to four words
        return Quality(exact, None, None, score(CHRF()))
    return Quality(exact, score(BLEU()), score(BLEU(lowercase=True)), score(CHRF()))


def by_length(
    lengths: NDArray[np.int64],
    nats: NDArray[np.float64],
    tokens: NDArray[np.int64],
    written: Sequence[str],
    references: Sequence[str],
) -> list[Band]:
    """The same in bands of source lengths (pairs,), in tokens without the newline."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    width = max(1, math.ceil((longest - shortest + 1) / BANDS))
    bands = []
    for first in range(shortest, longest + 1, width):
        here = np.flatnonzero((first <= lengths) & (lengths < first + width)).tolist()
        if here:
            found = quality([written[at] for at in here], [references[at] for at in here])
            mean = float(nats[here].sum() / tokens[here].sum())
            bands.append(Band(first, first + width - 1, len(here), mean, found.exact, found.bleu, found.chrf))
    return bands
