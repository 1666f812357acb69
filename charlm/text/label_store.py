"""Labelled texts as ids: the vocabulary, the names of the classes, and the texts to train on, to validate and to test.

The split is stratified: of every class the same share is held out. It depends on the file and `--split-seed` alone, so
trainings with other seeds are scored on the same texts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from charlm.config import Arg, DataSettings, DataSpec, Lengths, TrainSettings
from charlm.errors import CorpusError
from charlm.progress import Progress
from charlm.text.buckets import Buckets, EncodedLines, padded
from charlm.text.labels import LabelCorpus, Labelled
from charlm.text.pair_store import AT_ONCE, concatenated, encode_lines
from charlm.text.tokenizers import Tokenizer, utf8
from charlm.text.vocabulary import Vocabularies, token_counts, train_tokenizer

Rows = tuple[NDArray[np.int64], NDArray[np.int64]]  # classes (B, 1), texts (B, T) begun and ended by a newline


@dataclass(frozen=True)
class LabelSettings(DataSettings):
    """How labelled texts become token ids and batches."""

    max_length: Annotated[int, Arg("longest text in tokens; what is beyond is not read", min=1, max=100_000)] = 256
    batch_tokens: Annotated[int, Arg("tokens per batch, with padding", min=1, max=10_000_000)] = 2048
    label_count: Annotated[
        int | None, Arg("labelled texts to learn from, of each class its share [default: all]", min=2, max=10**9)
    ] = None
    split_seed: Annotated[int, Arg("which texts of each class are held out", min=0, max=2**31)] = 0


@dataclass(frozen=True, eq=False)
class LabelSplit:
    """Some of the labelled texts. Its `len` is the number of their tokens."""

    texts: EncodedLines
    labels: NDArray[np.int64]  # (texts,) the number of each one's class
    chars: int  # of the texts, with a newline after each
    bytes: int
    numbers: NDArray[np.int64]  # (texts,) the number of each in the corpus, from 0

    def __len__(self) -> int:
        return len(self.texts.ids)

    @property
    def count(self) -> int:
        """Number of texts."""
        return len(self.labels)

    def beginning(self, size: int, vocabularies: Vocabularies) -> LabelSplit:
        """The first texts, of `size` bytes together, but one at least."""
        widths = np.array([len(token) for token in vocabularies.target.tokens])[self.texts.ids]
        sizes = np.add.reduceat(widths, self.texts.offsets[:-1])  # (texts,)
        count = max(1, int(np.searchsorted(np.cumsum(sizes), size, "right")))
        chars = sum(len(text) + 1 for text in self.words(vocabularies.target, count))
        mask = np.arange(self.count) < count
        bytes = int(sizes[:count].sum())
        return LabelSplit(self.texts.where(mask), self.labels[mask], chars, bytes, self.numbers[mask])

    def words(self, tokenizer: Tokenizer, count: int) -> list[str]:
        """The first `count` texts."""
        return [tokenizer.decode(self.texts[number][:-1].tolist()) for number in range(min(count, self.count))]


@dataclass(frozen=True, eq=False)
class LabelStore:
    """Labelled texts as ids, split into training, validation and test."""

    vocabularies: Vocabularies
    train: LabelSplit
    validation: LabelSplit
    test: LabelSplit
    corpus_sha256: str
    settings: LabelSettings
    notes: list[str]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.vocabularies.target

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(V,) how often each token occurs in the training texts."""
        return token_counts(self.train.texts.ids, self.tokenizer.vocab_size)

    def spec(self, train: TrainSettings) -> DataSpec:  # noqa: ARG002  which sets the window of a running text
        return self.vocabularies.spec(lengths(self.settings), self.counts)

    def batches(self, train: TrainSettings) -> Buckets:
        texts, labels = self.train.texts, self.train.labels
        rows = partial(label_rows, texts, labels)
        return Buckets(texts.sizes, rows, len(texts.ids), batch_tokens=self.settings.batch_tokens, seed=train.seed)


def lengths(settings: LabelSettings) -> Lengths:
    """Of a text there are a newline before it and one after it, too."""
    return Lengths.of_text(settings.max_length + 2)


def label_rows(texts: EncodedLines, labels: NDArray[np.int64], numbers: NDArray[np.int64]) -> Rows:
    """The texts of these numbers (B,), and their classes."""
    return labels[numbers][:, None], text_rows(texts, numbers)


def text_rows(texts: EncodedLines, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, T) the texts of these numbers (B,), begun and ended by a newline, padded on the right with PAD."""
    newline = np.array([texts.newline], np.int64)
    return padded([np.concatenate([newline, texts[number]]) for number in numbers])


def prepare_labels(
    corpus: LabelCorpus, settings: LabelSettings, vocabularies: Vocabularies | None = None
) -> Generator[Progress, None, LabelStore]:
    """Encode and split all texts, by the `vocabularies` given or new ones.

    The names of the classes are kept if those of the corpus are the same. Raises `CorpusError` for fewer than two
    classes, or for a file in which labels hardly repeat.
    """
    yield from corpus.survey()
    classes = class_names(corpus)
    items = list(corpus)
    if vocabularies and {*vocabularies.classes} == {*classes}:
        classes = vocabularies.classes
    place = {name: number for number, name in enumerate(classes)}
    labels = np.array([place[item.label] for item in items], np.int64)
    train, validation, test = split(labels, settings)
    if vocabularies is None:
        read = range(len(items)) if settings.tokenizer == "char" else train.tolist()
        text = "".join(f"{items[number].text}\n" for number in read)
        tokenizer = yield from train_tokenizer(settings, lambda: iter([text]))
    else:
        tokenizer = vocabularies.target
    encoded, cut = yield from encode(items, tokenizer, settings.max_length)
    parts = [part(items, encoded, labels, numbers) for numbers in (train, validation, test)]
    named = Vocabularies(tokenizer, tokenizer, classes)
    notes = [*corpus.notes, *cut, *split_notes(items, *parts)]
    return LabelStore(named, parts[0], parts[1], parts[2], corpus.sha256, settings, notes)


def read_labels(
    corpus: LabelCorpus, settings: LabelSettings, vocabularies: Vocabularies
) -> Generator[Progress, None, LabelStore]:
    """Encode other texts for a run, all as the training part. Raises `CorpusError` for a label that is not its own."""
    yield from corpus.survey()
    numbers = {name: number for number, name in enumerate(vocabularies.classes)}
    for line, item in corpus.numbered():
        if item.label not in numbers:
            known = ", ".join(vocabularies.classes)
            raise CorpusError(
                f"line {line} has the label {item.label!r}, which this run does not know; it knows {known}"
            )
    items = list(corpus)
    labels = np.array([numbers[item.label] for item in items], np.int64)
    encoded, cut = yield from encode(items, vocabularies.target, settings.max_length)
    whole, none = (part(items, encoded, labels, np.arange(count)) for count in (len(items), 0))
    return LabelStore(vocabularies, whole, none, none, corpus.sha256, settings, [*corpus.notes, *cut])


def class_names(corpus: LabelCorpus) -> tuple[str, ...]:
    """In alphabetical order. Raises `CorpusError` for a file from which nothing can be learnt."""
    counts, name = corpus.counts, ", ".join(map(str, corpus.paths))
    if len(counts) < 2:
        raise CorpusError(
            f"all texts of {name} have the label {next(iter(counts))!r}; there must be two labels or more"
        )
    if len(counts) > counts.total() / 2:
        raise CorpusError(
            f"{name} has {len(counts)} different labels for {counts.total()} texts; if these are pairs of a source and "
            "a target, train with --arch seq2seq"
        )
    return tuple(sorted(counts))


def split(labels: NDArray[np.int64], settings: LabelSettings) -> list[NDArray[np.int64]]:
    """(the numbers of the texts to train on, to validate and to test), each in the order of the file.

    A class of few texts has one at least to train on.
    """
    rng = np.random.default_rng(settings.split_seed)
    limit = 1.0
    parts: list[list[NDArray[np.int64]]] = [[], [], []]
    for label in range(labels.max() + 1):
        numbers = rng.permutation(np.flatnonzero(labels == label))
        held = [round(len(numbers) * share) for share in (settings.val_frac, settings.test_frac)]
        held = held if sum(held) < len(numbers) else [0, 0]
        ends = np.cumsum([len(numbers) - sum(held), held[0]])
        for own, chosen in zip(parts, np.split(numbers, ends), strict=True):
            own.append(chosen)
    if settings.label_count is not None:
        limit = min(1.0, settings.label_count / sum(map(len, parts[0])))
    parts[0] = [numbers[: max(1, round(limit * len(numbers)))] for numbers in parts[0]]
    return [np.sort(np.concatenate(own)) for own in parts]


def split_notes(items: Sequence[Labelled], train: LabelSplit, *held_out: LabelSplit) -> Iterator[str]:
    """Why the held-out texts may measure badly."""
    known = {items[number].text for number in train.numbers}
    count = sum(items[number].text in known for part in held_out for number in part.numbers)
    if count:
        what = "texts stand" if count > 1 else "text stands"
        yield f"{count} held-out {what} in the training part too, and can be known by heart: keep one of equal texts"
    answers: dict[str, set[str]] = {}
    for item in items:
        answers.setdefault(item.text, set()).add(item.label)
    if torn := sum(len(labels) > 1 for labels in answers.values()):
        yield f"{torn} {'texts have' if torn > 1 else 'text has'} several labels, of which one at most can be guessed"


def encode(
    items: Sequence[Labelled], tokenizer: Tokenizer, longest: int
) -> Generator[Progress, None, tuple[EncodedLines, list[str]]]:
    """(the texts as ids, each with a newline and `longest` tokens before it at most; a note if some were longer)."""
    pieces = []
    for start in range(0, len(items), AT_ONCE):
        pieces.append(encode_lines([item.text for item in items[start : start + AT_ONCE]], tokenizer))
        yield Progress("encoding", min(start + AT_ONCE, len(items)), len(items))
    texts = concatenated(tuple(pieces))
    longer = int((texts.sizes > longest + 1).sum())
    if not longer:
        return texts, []
    note = f"{longer} texts are longer than --max-length {longest} tokens, and are read so far only"
    return shortened(texts, longest), [note]


def shortened(texts: EncodedLines, longest: int) -> EncodedLines:
    """The texts cut after so many tokens; the newlines stay."""
    place = np.arange(len(texts.ids)) - np.repeat(texts.offsets[:-1], texts.sizes)
    kept = (place < longest) | (place == np.repeat(texts.sizes - 1, texts.sizes))
    return EncodedLines(texts.ids[kept], np.concatenate([[0], np.cumsum(np.minimum(texts.sizes, longest + 1))]))


def part(
    items: Sequence[Labelled], encoded: EncodedLines, labels: NDArray[np.int64], numbers: NDArray[np.int64]
) -> LabelSplit:
    """The texts of these numbers."""
    mask = np.isin(np.arange(len(items)), numbers)
    texts = [items[number].text for number in numbers]
    chars, size = (sum(map(measure, texts)) + len(texts) for measure in (len, lambda text: len(utf8(text))))
    return LabelSplit(encoded.where(mask), labels[mask], chars, size, np.sort(numbers))
