"""Batches of lines, or pairs of them, of similar length (bucketing), so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.config import PAD


@dataclass(frozen=True, eq=False)
class EncodedLines:
    """Lines as token ids in one flat array. Every line ends with the id of a newline, so none is empty."""

    ids: NDArray[np.unsignedinteger]  # (tokens,)
    offsets: NDArray[np.int64]  # (lines + 1,) line i is ids[offsets[i] : offsets[i + 1]]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(lines,) tokens per line, its newline included."""
        return np.diff(self.offsets)

    @property
    def newline(self) -> int:
        """The id of a newline."""
        return int(self.ids[self.offsets[1] - 1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.ids[self.offsets[index] : self.offsets[index + 1]].astype(np.int64)

    def where(self, mask: NDArray[np.bool_]) -> EncodedLines:
        """The lines for which `mask` (lines,) is true."""
        sizes = self.sizes
        return EncodedLines(self.ids[np.repeat(mask, sizes)], np.concatenate([[0], np.cumsum(sizes[mask])]))


class PairBatch(NamedTuple):
    """B pairs as ids, padded on the right with PAD. The newline is both BOS and EOS."""

    source: NDArray[np.int64]  # (B, S) ending with a newline
    target: NDArray[np.int64]  # (B, T + 1) beginning and ending with a newline


class Buckets:
    """Training batches of lines: batch number i is a pure function of (lines, batch_tokens, seed, i), as in `Windows`.

    Lines are sorted by length, of pairs that of the longer side, and cut into batches of at most `batch_tokens` tokens,
    padding included. Every epoch shuffles lines of equal length among themselves, and the order of the batches.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        rows: Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], ...]],
        epoch_tokens: int,
        *,
        batch_tokens: int,
        seed: int,
    ) -> None:
        """`lengths` (lines,) in tokens; `rows` gives the arrays of a batch from the numbers (B,) of its lines."""
        self.lengths, self.rows, self.epoch_tokens = lengths, rows, epoch_tokens
        self.tokens, self.seed = batch_tokens, seed
        self.borders = batch_borders(np.sort(lengths), batch_tokens)
        self.per_epoch = len(self.borders) - 1  # batches
        self.batch_size = max(end - start for start, end in pairwise(self.borders))
        self.epoch = lru_cache(1)(self._epoch)

    @classmethod
    def of_pairs(cls, source: EncodedLines, target: EncodedLines, *, batch_tokens: int, seed: int) -> Buckets:
        lengths, rows = np.maximum(source.sizes, target.sizes), partial(pair_batch, source, target)
        return cls(lengths, rows, len(target.ids), batch_tokens=batch_tokens, seed=seed)

    def batch(self, number: int) -> tuple[tuple[NDArray[np.int64], ...], bool]:
        """The batch, and True: it starts anew, for no batch continues the one before."""
        epoch, index = divmod(number, self.per_epoch)
        lines, order = self.epoch(epoch)
        start, end = self.borders[order[index]], self.borders[order[index] + 1]
        return self.rows(lines[start:end]), True

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(numbers of the lines, sorted by length; order of the batches)."""
        rng = np.random.default_rng((self.seed, epoch))
        return np.lexsort((rng.random(len(self.lengths)), self.lengths)), rng.permutation(self.per_epoch)


def batch_borders(lengths: NDArray[np.int64], max_tokens: int) -> list[int]:
    """Cut ascending `lengths` into batches: batch i holds the pairs from borders[i] to before borders[i + 1].

    A batch has at most `max_tokens` tokens, padding included, or else one pair.
    """
    borders = [0]
    for number, length in enumerate(lengths.tolist()):
        if number > borders[-1] and (number - borders[-1] + 1) * length > max_tokens:
            borders.append(number)
    return [*borders, len(lengths)]


def pair_batch(source: EncodedLines, target: EncodedLines, pairs: NDArray[np.int64]) -> PairBatch:
    """The pairs of these numbers (B,)."""
    bos = np.array([target.newline], np.int64)
    targets: list[NDArray[np.int64]] = [np.concatenate([bos, target[pair]]) for pair in pairs]
    return PairBatch(padded([source[pair] for pair in pairs]), padded(targets))


def padded(lines: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Lines (T_i,) as the rows of one array (B, T), padded on the right with PAD."""
    table = np.full((len(lines), max(map(len, lines))), PAD, np.int64)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = line
    return table
