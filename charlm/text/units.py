"""A text cut into units, such as words, each different one found once: a megabyte of text has some ten thousand.

Equal units are found by a hash of their code points and then compared, all in NumPy, so that no unit but the first of
its kind becomes a string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.text.characters import continues

Codes = NDArray[np.uint32]  # (characters,) code points
Ids = NDArray[np.int64]
Places = NDArray[np.int32]  # in a piece of text: half as much to move

BASE = np.uint64(0x9E3779B97F4A7C15)  # of the hash, a polynomial modulo 2^64; odd
ALONE, LETTER, BLANK, NEWLINE, TAB, ODD, MARK = range(7)
LOST = "\0\u2581"  # SentencePiece would lose them, and surrogates: it writes a space as U+2581


class Units(NamedTuple):
    """The text is `distinct[which[0]] + distinct[which[1]] + …`."""

    distinct: list[str]
    which: Ids  # (units,)

    def spread(self, ids: Sequence[Sequence[int]]) -> Ids:
        """The ids of the whole text, given those of each distinct unit."""
        counts = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter(chain.from_iterable(ids), np.int64)
        sizes = counts[self.which]
        begins = (np.cumsum(counts) - counts)[self.which] - (np.cumsum(sizes) - sizes)
        spread: Ids = flat[np.arange(sizes.sum()) + np.repeat(begins, sizes)]
        return spread


def words(text: str) -> Units:
    """Words, runs of one blank, and every other character by itself, all with their marks and joiners."""

    def kind(c: str) -> int:
        if continues(c):
            return MARK
        return LETTER if c.isalnum() or c == "_" else {" ": BLANK, "\n": NEWLINE, "\t": TAB}.get(c, ALONE)

    return units(text, kind, lambda before, now: (before != now) | (now == ALONE))


def phrases(text: str) -> Units:
    """Runs of anything with the spaces before it, and apart from them newlines and what SentencePiece would lose.

    None of its pieces spans two of these.
    """

    def kind(c: str) -> int:
        return {" ": BLANK, "\n": NEWLINE}.get(c, ODD if is_odd(c) else LETTER)

    return units(text, kind, lambda before, now: (before != now) & ~((before == BLANK) & (now == LETTER)))


def is_odd(unit: str) -> bool:
    """Whether SentencePiece would lose it, given that it is a character or a whole phrase."""
    return unit[0] in LOST or "\ud800" <= unit[0] <= "\udfff"


Kinds = NDArray[np.uint8]


def units(text: str, kind: Callable[[str], int], begins: Callable[[Kinds, Kinds], NDArray[np.bool_]]) -> Units:
    """Cut wherever `begins` says so of the kinds of two neighbours. A mark has the kind of what it belongs to."""
    codes = code_points(text)
    if not len(codes):
        return Units([], np.zeros(0, np.int64))
    seen = np.flatnonzero(np.bincount(codes))
    table = np.zeros(seen[-1] + 1, np.uint8)
    table[seen] = [kind(chr(code)) for code in seen.tolist()]
    kinds = table[codes]
    new = np.ones(len(codes), np.bool_)  # where a character begins, and then where a unit does
    if MARK in table[seen]:
        new[1:] = (kinds[1:] != MARK) | (codes[:-1] < ord(" "))  # as `characters` cuts them
        kinds = kinds[np.maximum.accumulate(np.where(new, np.arange(len(codes), dtype=np.int32), 0))]
    new[1:] &= begins(kinds[:-1], kinds[1:])
    starts = np.flatnonzero(new).astype(np.int32)
    ends = np.append(starts[1:], np.int32(len(codes)))
    which, first = alike(codes, starts, ends - starts)
    return Units([text[a:b] for a, b in zip(starts[first].tolist(), ends[first].tolist(), strict=True)], which)


def alike(codes: Codes, starts: Places, sizes: Places) -> tuple[Ids, Ids]:
    """The group of each unit, and one unit of each group."""
    place = np.arange(len(codes), dtype=np.int32) - np.repeat(starts, sizes)  # of a character in its unit
    powers = np.cumprod(np.full(sizes.max(), BASE))  # uint64, which wraps around
    hashes = np.add.reduceat(powers[place] * (codes + np.uint64(1)), starts)
    bits = np.uint64(len(starts).bit_length())  # to hold a unit's number: sorting numbers is faster than sorting places
    ranked = np.sort(hashes >> bits << bits | np.arange(len(starts), dtype=np.uint64))
    order = (ranked & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    new = np.append(True, np.diff(ranked >> bits) != 0)
    which = np.empty(len(starts), np.int64)
    which[order] = np.cumsum(new) - 1
    first = order[new]
    like = first[which]
    if (sizes[like] == sizes).all() and (codes[np.repeat(starts[like], sizes) + place] == codes).all():
        return which, first
    return np.arange(len(starts)), np.arange(len(starts))  # two hashes fell together: nobody is grouped


def code_points(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
