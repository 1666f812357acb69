"""Batches of pairs of lines, alike in length, so that little is padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PADDING = -1  # what no vocabulary holds, as `model.PAD`


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines as ids, one after the other. Each ends with the id of a newline, and so none is empty."""

    ids: NDArray[np.unsignedinteger]  # (tokens,)
    ends: NDArray[np.int64]  # (lines + 1,) 0, and where each line ends

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(lines,) tokens of each, its end included."""
        return np.diff(self.ends)

    @property
    def newline(self) -> int:
        return int(self.ids[self.ends[1] - 1])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, line: int) -> NDArray[np.int64]:
        return self.ids[self.ends[line] : self.ends[line + 1]].astype(np.int64)

    def where(self, here: NDArray[np.bool_]) -> Lines:
        """The lines for which `here` (lines,) is true."""
        sizes = self.sizes
        return Lines(self.ids[np.repeat(here, sizes)], np.concatenate([[0], np.cumsum(sizes[here])]))


class Rows(NamedTuple):
    """A batch, padded on the right."""

    source: NDArray[np.int64]  # (B, S) each with its newline
    target: NDArray[np.int64]  # (B, T + 1) the same after a newline, which every line of a text stands after


class Buckets:
    """Batch number i as a pure function of (lines, size, seed, i), as `Windows`.

    Pairs are sorted by the length of their longer side, and cut into batches of at most `batch_tokens` of it. In every
    epoch pairs of one length change places, and the batches come in another order.
    """

    def __init__(self, source: Lines, target: Lines, *, batch_tokens: int, seed: int) -> None:
        self.source, self.target, self.tokens, self.seed = source, target, batch_tokens, seed
        self.longest = np.maximum(source.sizes, target.sizes)  # (pairs,)
        self.cuts = cut(np.sort(self.longest), batch_tokens)
        self.epoch_tokens = len(target.ids)
        self.per_epoch = len(self.cuts) - 1  # batches
        self.batch_size = max(b - a for a, b in pairwise(self.cuts))
        self.epoch = lru_cache(1)(self._epoch)

    def batch(self, number: int) -> tuple[Rows, bool]:
        """(rows, True): no batch continues the one before."""
        epoch, index = divmod(number, self.per_epoch)
        pairs, batches = self.epoch(epoch)
        at = batches[index]
        return rows(self.source, self.target, pairs[self.cuts[at] : self.cuts[at + 1]]), True

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(pairs sorted by length, the order of their batches)."""
        rng = np.random.default_rng((self.seed, epoch))
        return np.lexsort((rng.random(len(self.longest)), self.longest)), rng.permutation(self.per_epoch)


def cut(sizes: NDArray[np.int64], most: int) -> list[int]:
    """Where batches of rising sizes begin, and where the last one ends; rows times the largest are `most` or fewer."""
    cuts = [0]
    for number, size in enumerate(sizes.tolist()):
        if number > cuts[-1] and (number - cuts[-1] + 1) * size > most:
            cuts.append(number)
    return [*cuts, len(sizes)]


def rows(source: Lines, target: Lines, pairs: NDArray[np.int64]) -> Rows:
    start = np.array([target.newline], np.int64)
    begun: list[NDArray[np.int64]] = [np.concatenate([start, target[pair]]) for pair in pairs]
    return Rows(padded([source[pair] for pair in pairs]), padded(begun))


def padded(lines: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """(B, T) as long as the longest."""
    table = np.full((len(lines), max(map(len, lines))), PADDING, np.int64)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = line
    return table
