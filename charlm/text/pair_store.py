"""Pairs as ids: the vocabularies of both sides, and the pairs to train on, to validate on and to test on.

The last pairs are held out. Vocabularies are learnt from the training pairs alone, with one exception, as in a running
text: the alphabet of `char` is that of all pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from charlm.config import Arg, DataSettings, DataSpec, Lengths, TrainSettings
from charlm.errors import CorpusError, SettingsError
from charlm.progress import Progress
from charlm.text.buckets import Buckets, EncodedLines
from charlm.text.order import shuffle_advice
from charlm.text.pairs import Pair, PairCorpus
from charlm.text.tokenizers import Tokenizer, utf8
from charlm.text.vocabulary import Vocabularies, token_counts, train_tokenizer

AT_ONCE = 10_000  # pairs that are in memory as text
SORTED = 1.5  # held-out sources so many times as long as the training ones mean a file sorted by length


@dataclass(frozen=True)
class PairSettings(DataSettings):
    """How pairs of a source and a target become token ids and batches."""

    share_vocab: Annotated[bool, Arg("one vocabulary for sources and targets")] = False
    max_length: Annotated[
        int, Arg("longest source or target in tokens; longer pairs are left out", min=1, max=100_000)
    ] = 128
    batch_tokens: Annotated[
        int, Arg("tokens per batch, of the longer side and with padding", min=1, max=10_000_000)
    ] = 1024

    def __post_init__(self) -> None:
        if self.alphabet == "printable":
            raise SettingsError(
                "--alphabet printable changes what is to be written; pairs need --alphabet corpus", field="alphabet"
            )
        super().__post_init__()


@dataclass(frozen=True, eq=False)
class PairSplit:
    """Some of the pairs. Its `len` is the number of tokens of its targets, which are what is scored."""

    source: EncodedLines
    target: EncodedLines
    chars: int  # of the targets with their newlines
    bytes: int  # of the targets with their newlines, as UTF-8
    numbers: NDArray[np.int64]  # (pairs,) the number of each in the corpus, from 0

    def __len__(self) -> int:
        return len(self.target.ids)

    @property
    def count(self) -> int:
        """Number of pairs."""
        return len(self.target)

    def beginning(self, size: int, vocabularies: Vocabularies) -> PairSplit:
        """The first pairs, as many as have targets of `size` bytes together, but one at least."""
        widths = np.array([len(token) for token in vocabularies.target.tokens])[self.target.ids]
        ends = np.cumsum(np.add.reduceat(widths, self.target.offsets[:-1]))  # (pairs,)
        count = max(1, int(np.searchsorted(ends, size, "right")))
        mask = np.arange(self.count) < count
        chars = sum(len(text) + 1 for text in self.texts(vocabularies, count)[1])
        sides = self.source.where(mask), self.target.where(mask)
        return PairSplit(*sides, chars, int(ends[count - 1]), self.numbers[mask])

    def texts(self, vocabularies: Vocabularies, limit: int = sys.maxsize) -> tuple[list[str], list[str]]:
        """(sources, targets) of the first `limit` pairs as text."""
        source, target = (
            [tokenizer.decode(lines[number][:-1].tolist()) for number in range(min(limit, len(lines)))]
            for lines, tokenizer in zip((self.source, self.target), vocabularies.sides, strict=True)
        )
        return source, target


@dataclass(frozen=True, eq=False)
class PairStore:
    """Pairs as ids, split into training, validation and test."""

    vocabularies: Vocabularies
    train: PairSplit
    validation: PairSplit
    test: PairSplit
    corpus_sha256: str
    settings: PairSettings
    notes: list[str]  # what the user should know: of pairs left out, of a poor split

    @property
    def tokenizer(self) -> Tokenizer:
        return self.vocabularies.target

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(V,) how often each token occurs in the training targets."""
        return token_counts(self.train.target.ids, self.tokenizer.vocab_size)

    def spec(self, train: TrainSettings) -> DataSpec:  # noqa: ARG002  which sets the window of a running text
        return self.vocabularies.spec(Lengths.of_pairs(self.settings.max_length + 1), self.counts)

    def batches(self, train: TrainSettings) -> Buckets:
        tokens = self.settings.batch_tokens
        return Buckets.of_pairs(self.train.source, self.train.target, batch_tokens=tokens, seed=train.seed)


def prepare_pairs(
    corpus: PairCorpus, settings: PairSettings, vocabularies: Vocabularies | None = None
) -> Generator[Progress, None, PairStore]:
    """Encode all pairs, by the `vocabularies` given or new ones. Raises `CorpusError` if none is left to train on."""
    yield from corpus.survey()
    held_out = [round(corpus.count * share) for share in (settings.val_frac, settings.test_frac)]
    borders = (0, corpus.count - sum(held_out), corpus.count - held_out[1], corpus.count)
    if vocabularies is None:
        count = corpus.count if settings.tokenizer == "char" else borders[1]
        vocabularies = yield from learn_vocabularies(corpus, settings, count)
    encoded, hashes = [], []
    for pairs in batched(iter(corpus)):
        encoded.append(encode(pairs, vocabularies))
        hashes.append(np.fromiter(map(hash, pairs), np.int64, len(pairs)))  # to count equal pairs by
        yield Progress("encoding", AT_ONCE * len(encoded), corpus.count)
    sources, targets, *sizes = zip(*encoded, strict=True)
    source, target = concatenated(sources), concatenated(targets)
    chars, size = map(np.concatenate, sizes)  # (pairs,) each
    if len(target) != corpus.count:
        raise CorpusError(f"{', '.join(map(str, corpus.paths))} changed while it was read; start again")
    longest = settings.max_length
    fits = np.maximum(source.sizes, target.sizes) <= longest + 1
    number = np.arange(corpus.count)
    parts = []
    for start, stop in pairwise(borders):
        mask = fits & (start <= number) & (number < stop)
        sides = source.where(mask), target.where(mask)
        parts.append(PairSplit(*sides, int(chars[mask].sum()), int(size[mask].sum()), np.flatnonzero(mask)))
    train, validation, test = parts
    long = int((~fits).sum())
    if not train.count:
        raise CorpusError(
            f"none of {corpus.count} pairs is left: {sum(held_out)} are held out, and {long} are longer than the "
            f"{longest} tokens of --max-length"
        )
    notes = list(corpus.notes)
    if corpus.sorted and settings.holds_out:
        notes.append(shuffle_advice(corpus.paths, parallel=bool(corpus.targets)))
    if long:
        notes.append(f"{long} pairs are longer than --max-length {longest} tokens and were left out")
    notes += split_notes(np.concatenate(hashes), train, validation, test)
    return PairStore(vocabularies, train, validation, test, corpus.sha256, settings, notes)


def split_notes(hashes: NDArray[np.int64], train: PairSplit, *held_out: PairSplit) -> Iterator[str]:
    """Why the held-out pairs may measure badly; pairs are equal if their `hashes` (pairs of the corpus,) are."""
    validation, count = held_out[0], sum(part.count for part in held_out)
    known = sum(int(np.isin(hashes[part.numbers], hashes[train.numbers]).sum()) for part in held_out)
    if known:
        stand = "pairs stand" if known > 1 else "pairs stands"
        yield (
            f"{known} of {count} held-out {stand} in the training part too, and can be known by heart: to score what "
            "was never seen, keep only the first of equal lines in the file, or score another with charlm eval --pairs"
        )
    if validation.count and median_length(validation) > SORTED * median_length(train):
        yield (
            f"the held-out sources are longer than those to learn from (median {median_length(validation):g} and "
            f"{median_length(train):g} tokens): if the file is sorted by length, shuffle its lines first"
        )


def median_length(part: PairSplit) -> float:
    """Of its sources, in tokens."""
    return float(np.median(part.source.sizes))


def learn_vocabularies(
    corpus: PairCorpus, settings: PairSettings, count: int
) -> Generator[Progress, None, Vocabularies]:
    """Those of both sides, from the first `count` pairs."""

    def texts(*sides: int) -> Iterator[str]:
        for pairs in batched(islice(corpus, count)):
            yield "".join(f"{pair[side]}\n" for side in sides for pair in pairs)

    if settings.share_vocab:
        shared = yield from train_tokenizer(settings, lambda: texts(0, 1))
        return Vocabularies(shared, shared)
    source = yield from train_tokenizer(settings, lambda: texts(0))
    return Vocabularies(source, (yield from train_tokenizer(settings, lambda: texts(1))))


def batched(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    """The pairs in lists of `AT_ONCE`."""
    while batch := list(islice(pairs, AT_ONCE)):
        yield batch


Encoded = tuple[EncodedLines, EncodedLines, NDArray[np.int64], NDArray[np.int64]]


def encode(pairs: list[Pair], vocabularies: Vocabularies) -> Encoded:
    """(sources, targets, (pairs,) characters of each target with its newline, (pairs,) its bytes)."""
    sides = [
        encode_lines([pair[side] for pair in pairs], tokenizer) for side, tokenizer in enumerate(vocabularies.sides)
    ]
    chars = np.array([len(pair.target) + 1 for pair in pairs])
    return sides[0], sides[1], chars, np.array([len(utf8(pair.target)) + 1 for pair in pairs])


def encode_lines(texts: list[str], tokenizer: Tokenizer) -> EncodedLines:
    """Encode texts of one line each. Raises `VocabularyError` for characters that the tokenizer does not know."""
    ids = tokenizer.encode_lines("".join(f"{text}\n" for text in texts))
    ends = np.flatnonzero(ids == tokenizer.newline) + 1
    assert len(ends) == len(texts), "a text has several lines"
    return EncodedLines(ids.astype(np.min_scalar_type(tokenizer.vocab_size - 1)), np.concatenate([[0], ends]))


def concatenated(parts: tuple[EncodedLines, ...]) -> EncodedLines:
    sizes = np.concatenate([part.sizes for part in parts])
    return EncodedLines(np.concatenate([part.ids for part in parts]), np.concatenate([[0], np.cumsum(sizes)]))
