"""Pairs as ids: the vocabularies of both sides, and the pairs to train on, to validate on and to test on.

The last pairs are held out. Vocabularies are learnt from the training pairs alone, with the one exception that the
alphabet of `char` is that of all, as for running text.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from charlm.config import DataSpec, Lengths, PairSettings, TrainSettings
from charlm.errors import CorpusError
from charlm.progress import Progress
from charlm.text.buckets import Buckets, Lines
from charlm.text.order import shuffle_first
from charlm.text.pairs import Pair, PairCorpus
from charlm.text.tokenizers import Tokenizer, utf8
from charlm.text.vocabulary import Vocabularies, token_counts, train_tokenizer

AT_ONCE = 10_000  # pairs that are held as text
SORTED = 1.5  # times as long as those before: no accident


@dataclass(frozen=True, eq=False)
class PairSplit:
    """Some of the pairs. Its length is that of its targets, in tokens."""

    source: Lines
    target: Lines
    chars: int  # of the targets, a newline after each
    bytes: int  # the same as UTF-8
    numbers: NDArray[np.int64]  # (pairs,) where each stands in the corpus

    def __len__(self) -> int:
        return len(self.target.ids)

    @property
    def count(self) -> int:
        """Pairs."""
        return len(self.target)

    def texts(self, vocabularies: Vocabularies, most: int = sys.maxsize) -> tuple[list[str], list[str]]:
        """The sources and the targets, or the first of them, as they were."""
        source, target = (
            [tokenizer.decode(lines[at][:-1].tolist()) for at in range(min(most, len(lines)))]
            for lines, tokenizer in zip((self.source, self.target), vocabularies, strict=True)
        )
        return source, target


@dataclass(frozen=True, eq=False)
class PairStore:
    """Pairs as ids."""

    vocabularies: Vocabularies
    train: PairSplit
    validation: PairSplit
    test: PairSplit
    corpus_sha256: str
    settings: PairSettings
    notes: list[str]  # what a person should know of lines that were left out

    @property
    def tokenizer(self) -> Tokenizer:
        return self.vocabularies.target

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return token_counts(self.train.target.ids, self.tokenizer.vocab_size)

    def spec(self, train: TrainSettings) -> DataSpec:  # noqa: ARG002  of a running text the window is asked for
        return self.vocabularies.spec(Lengths.of_pairs(self.settings.max_length + 1), self.counts)

    def batches(self, train: TrainSettings) -> Buckets:
        tokens = self.settings.batch_tokens
        return Buckets(self.train.source, self.train.target, batch_tokens=tokens, seed=train.seed)


def prepare_pairs(
    corpus: PairCorpus, settings: PairSettings, vocabularies: Vocabularies | None = None
) -> Generator[Progress, None, PairStore]:
    """The ids of all pairs, by these vocabularies or new ones. Raises `CorpusError` if there are too few."""
    yield from corpus.survey()
    held_out = [round(corpus.count * share) for share in (settings.val_frac, settings.test_frac)]
    borders = (0, corpus.count - sum(held_out), corpus.count - held_out[1], corpus.count)
    if vocabularies is None:
        yield Progress("learning the vocabulary", 0, corpus.count)
        vocabularies = learn(corpus, settings, corpus.count if settings.tokenizer == "char" else borders[1])
    encoded, hashes = [], []
    for pairs in batched(iter(corpus)):
        encoded.append(encode(pairs, vocabularies))
        hashes.append(np.fromiter(map(hash, pairs), np.int64, len(pairs)))  # by which equal ones are counted
        yield Progress("encoding", AT_ONCE * len(encoded), corpus.count)
    sources, targets, *sizes = zip(*encoded, strict=True)
    source, target = joined(sources), joined(targets)
    chars, size = map(np.concatenate, sizes)
    if len(target) != corpus.count:
        raise CorpusError(f"{', '.join(map(str, corpus.paths))} changed while it was read; start again")
    longest = settings.max_length
    fits = np.maximum(source.sizes, target.sizes) <= longest + 1
    number = np.arange(corpus.count)
    parts = []
    for start, stop in pairwise(borders):
        here = fits & (start <= number) & (number < stop)
        sides = source.where(here), target.where(here)
        parts.append(PairSplit(*sides, int(chars[here].sum()), int(size[here].sum()), np.flatnonzero(here)))
    train, validation, test = parts
    long = int((~fits).sum())
    if not train.count:
        raise CorpusError(
            f"none of {corpus.count} pairs is left: {sum(held_out)} are held out, and {long} are longer than the "
            f"{longest} tokens of --max-length"
        )
    notes = list(corpus.notes)
    if corpus.sorted and settings.holds_out:
        notes.append(shuffle_first(corpus.paths, parallel=bool(corpus.targets)))
    if long:
        notes.append(f"{long} pairs are longer than --max-length {longest} tokens and were left out")
    notes += split_notes(np.concatenate(hashes), train, validation, test)
    return PairStore(vocabularies, train, validation, test, corpus.sha256, settings, notes)


def split_notes(hashes: NDArray[np.int64], train: PairSplit, *held_out: PairSplit) -> Iterator[str]:
    """What makes the held-out pairs a bad measure; `hashes` (pairs,) are those of all that were read."""
    validation, count = held_out[0], sum(part.count for part in held_out)
    known = sum(int(np.isin(hashes[part.numbers], hashes[train.numbers]).sum()) for part in held_out)
    if known:
        stand = "pairs stand" if known > 1 else "pairs stands"
        yield (
            f"{known} of {count} held-out {stand} in the training part too, and can be known by heart: to score what "
            "was never seen, keep only the first of equal lines in the file, or score another with charlm eval --pairs"
        )
    if validation.count and median(validation) > SORTED * median(train):
        yield (
            f"the held-out sources are longer than those to learn from (median {median(validation):g} and "
            f"{median(train):g} tokens): if the file is sorted by length, shuffle its lines first"
        )


def median(part: PairSplit) -> float:
    """Tokens of a source."""
    return float(np.median(part.source.sizes))


def learn(corpus: PairCorpus, settings: PairSettings, count: int) -> Vocabularies:
    """From the first `count` pairs."""

    def texts(*sides: int) -> Iterator[str]:
        for pairs in batched(islice(corpus, count)):
            yield "".join(f"{pair[side]}\n" for side in sides for pair in pairs)

    if settings.share_vocab:
        both = train_tokenizer(settings, lambda: texts(0, 1))
        return Vocabularies(both, both)
    return Vocabularies(*(train_tokenizer(settings, lambda side=side: texts(side)) for side in (0, 1)))  # type: ignore[misc]


def batched(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    while some := list(islice(pairs, AT_ONCE)):
        yield some


Encoded = tuple[Lines, Lines, NDArray[np.int64], NDArray[np.int64]]


def encode(pairs: list[Pair], vocabularies: Vocabularies) -> Encoded:
    """Sources, targets, and of each target with its newline the characters and bytes."""
    sides = [as_lines([pair[side] for pair in pairs], tokenizer) for side, tokenizer in enumerate(vocabularies)]
    chars = np.array([len(pair.target) + 1 for pair in pairs])
    return sides[0], sides[1], chars, np.array([len(utf8(pair.target)) + 1 for pair in pairs])


def as_lines(texts: list[str], tokenizer: Tokenizer) -> Lines:
    """Texts of one line each. Raises `VocabularyError` as the tokenizer does."""
    ids = tokenizer.encode("".join(f"{text}\n" for text in texts))
    ends = np.flatnonzero(ids == tokenizer.newline) + 1
    assert len(ends) == len(texts), "a text has several lines"
    return Lines(ids.astype(np.min_scalar_type(tokenizer.vocab_size - 1)), np.concatenate([[0], ends]))


def joined(parts: tuple[Lines, ...]) -> Lines:
    sizes = np.concatenate([part.sizes for part in parts])
    return Lines(np.concatenate([part.ids for part in parts]), np.concatenate([[0], np.cumsum(sizes)]))
