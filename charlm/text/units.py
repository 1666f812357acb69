"""A text cut into units, such as words, with a list of the different ones: a megabyte of text has some ten thousand.

Equal units are grouped by a hash of their code points and then compared, all in NumPy, so that only one unit of every
group becomes a Python string.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.text.characters import WHITE_SPACE, continues

Codes = NDArray[np.uint32]  # (characters,) code points
Ids = NDArray[np.int64]
Positions = NDArray[np.int32]  # in a piece of text; 32 bits are faster than 64

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd; the hash is a polynomial in it modulo 2^64
ALONE, LETTER, NUMBER, ODD, MARK, NEWLINE, TAB, WHITE, BLANK = range(9)
ENDINGS = [*map(ord, "stmd")]  # of English contractions, after the apostrophe
LONG_ENDINGS = [ord(a) << 32 | ord(b) for a, b in ("re", "ve", "ll")]
LOST = "\0\u2581"  # what SentencePiece does not give back, beside surrogates: it writes a space as U+2581


class Units(NamedTuple):
    """The text is `distinct[inverse[0]] + distinct[inverse[1]] + …`."""

    distinct: list[str]
    inverse: Ids  # (units,) as of np.unique

    def spread(self, ids: Sequence[Sequence[int]]) -> Ids:
        """The ids (tokens,) of the whole text, given those of every distinct unit."""
        counts = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter(chain.from_iterable(ids), np.int64)
        sizes = counts[self.inverse]
        begins = (np.cumsum(counts) - counts)[self.inverse] - (np.cumsum(sizes) - sizes)
        spread: Ids = flat[np.arange(sizes.sum()) + np.repeat(begins, sizes)]
        return spread


def in_word(c: str) -> bool:
    """Whether a character is one of a word: a letter, a digit, an underscore, or a mark or joiner of the one before."""
    return c.isalnum() or c == "_" or continues(c)


def words(text: str) -> Units:
    """Cut into words, runs of one blank, and single other characters, all with their marks and joiners."""

    def kind(c: str) -> int:
        if continues(c):
            return MARK
        return LETTER if in_word(c) else {" ": BLANK, "\n": NEWLINE, "\t": TAB}.get(c, ALONE)

    return units(text, kind, lambda left, right: (left != right) | (right == ALONE))


def phrases(text: str) -> Units:
    """Cut into lines of text with the spaces before them, newlines, and what SentencePiece would lose.

    No piece of SentencePiece spans two of these.
    """

    def kind(c: str) -> int:
        return {" ": BLANK, "\n": NEWLINE}.get(c, ODD if is_odd(c) else LETTER)

    return units(text, kind, lambda left, right: (left != right) & ~((left == BLANK) & (right == LETTER)))


def pieces(text: str, *, lines: bool = False) -> Units:
    r"""Cut as GPT-2's regular expression does, which tries these in turn, Unicode's letters L, numbers N and blanks \s:

        's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

    So a space belongs to what follows it, and of other blanks in a row the last stands alone. With `lines` every
    newline stands alone, and each line is cut as if there were no other.
    """
    codes = code_points(text)
    kinds = kinds_of(codes, category)
    blank = kinds >= WHITE
    left, right = kinds[:-1], kinds[1:]
    before_word = np.append(~blank[2:], False)[: len(right)]  # whether no blank follows
    new = np.ones(len(codes), np.bool_)  # where a unit begins
    new[1:] = np.where(blank[1:], ~blank[:-1] | before_word, (left != right) & (left != BLANK))
    if lines:
        newline = codes == ord("\n")
        new |= newline
        new[1:] |= newline[:-1]
    quotes = np.flatnonzero((codes == ord("'")) & new)
    second, third = (np.append(codes, [0, 0])[quotes + ahead] for ahead in (1, 2))
    for found, size in ((np.isin(second, ENDINGS), 2), (np.isin(second << 32 | third, LONG_ENDINGS), 3)):
        new[quotes[found] + 1] = False
        ends = quotes[found] + size
        new[ends[ends < len(codes)]] = True
    return cut_at(text, codes, new)


def category(c: str) -> int:
    """The kind of a character for `pieces`, by the Unicode of this Python; what it does not know is `ALONE`."""
    if c == " ":
        return BLANK
    return WHITE if c in WHITE_SPACE else {"L": LETTER, "N": NUMBER}.get(unicodedata.category(c)[0], ALONE)


def is_odd(unit: str) -> bool:
    """Whether SentencePiece would lose a character, or a unit of `phrases`."""
    return unit[0] in LOST or "\ud800" <= unit[0] <= "\udfff"


Kinds = NDArray[np.uint8]


def units(text: str, kind: Callable[[str], int], begins: Callable[[Kinds, Kinds], NDArray[np.bool_]]) -> Units:
    """Cut `text` between neighbours for whose kinds `begins(left, right)` is true. A mark has its character's kind."""
    codes = code_points(text)
    kinds = kinds_of(codes, kind)
    new = np.ones(len(codes), np.bool_)  # where a character begins, and below where a unit does
    if (kinds == MARK).any():
        new[1:] = (kinds[1:] != MARK) | (codes[:-1] < ord(" "))  # as `characters` cuts them
        kinds = kinds[np.maximum.accumulate(np.where(new, np.arange(len(codes), dtype=np.int32), 0))]
    new[1:] &= begins(kinds[:-1], kinds[1:])
    return cut_at(text, codes, new)


def kinds_of(codes: Codes, kind: Callable[[str], int]) -> Kinds:
    """(characters,) the kind of every character; `kind` is asked once for each different one."""
    alphabet = np.flatnonzero(np.bincount(codes))
    table = np.zeros(alphabet.max(initial=0) + 1, np.uint8)
    table[alphabet] = [kind(chr(code)) for code in alphabet.tolist()]
    return table[codes]


def cut_at(text: str, codes: Codes, new: NDArray[np.bool_]) -> Units:
    """The units of `text`, one of which begins wherever `new` (characters,) is true."""
    if not len(codes):
        return Units([], np.zeros(0, np.int64))
    starts = np.flatnonzero(new).astype(np.int32)
    ends = np.append(starts[1:], np.int32(len(codes)))
    inverse, first = group(codes, starts, ends - starts)
    return Units([text[a:b] for a, b in zip(starts[first].tolist(), ends[first].tolist(), strict=True)], inverse)


def group(codes: Codes, starts: Positions, sizes: Positions) -> tuple[Ids, Ids]:
    """(the group of every unit (units,), the number of one unit in every group (groups,)): equal units are a group."""
    position = np.arange(len(codes), dtype=np.int32) - np.repeat(starts, sizes)  # of a character in its unit
    powers = np.cumprod(np.full(sizes.max(), BASE))  # uint64, which wraps around
    hashes = np.add.reduceat(powers[position] * (codes + np.uint64(1)), starts)
    bits = np.uint64(len(starts).bit_length())  # the low bits hold a unit's number: np.sort is faster than np.argsort
    ranked = np.sort(hashes >> bits << bits | np.arange(len(starts), dtype=np.uint64))
    order = (ranked & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    new = np.append(True, np.diff(ranked >> bits) != 0)
    groups = np.empty(len(starts), np.int64)
    groups[order] = np.cumsum(new) - 1
    first = order[new]
    like = first[groups]  # for every unit, the one that stands for its group
    if (sizes[like] == sizes).all() and (codes[np.repeat(starts[like], sizes) + position] == codes).all():
        return groups, first
    return np.arange(len(starts)), np.arange(len(starts))  # different units with one hash: every unit is a group


def code_points(text: str) -> Codes:
    """The code points of a text, lone surrogates too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
