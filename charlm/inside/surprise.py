"""Where a text surprises a model: the cost of every character, and sums over kinds of characters and places."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.errors import SettingsError
from charlm.evaluate import token_nats
from charlm.progress import Progress
from charlm.text.characters import characters
from charlm.text.tokenizers import utf8
from charlm.writer import Writer

HOT = 8.0  # bits at which a character is drawn as red as it gets: as if one of 256 had been equally likely

Bits = NDArray[np.float64]


class Total(NamedTuple):
    """Of some characters of the text, with their marks and joiners."""

    name: str
    chars: int
    bits: float  # per character


class Surprise(NamedTuple):
    """What a text costs a model, code point by code point."""

    text: str
    bits: Bits  # (code points,)

    @property
    def bits_per_byte(self) -> float:
        return float(self.bits.sum()) / len(utf8(self.text))

    def characters(self) -> tuple[list[str], Bits]:
        """Letters with their marks, and what they cost together."""
        cut = characters(self.text)
        return cut, np.add.reduceat(self.bits, np.cumsum([0, *map(len, cut[:-1])]))

    def lines(self) -> list[tuple[list[str], Bits]]:
        """The characters of each line, its newline included, and their bits."""
        cut, bits = self.characters()
        ends = [at for at, c in enumerate(cut, 1) if c == "\n" or at == len(cut)]
        return [(cut[start:end], bits[start:end]) for start, end in pairwise([0, *ends])]

    def by_class(self) -> list[Total]:
        return self.totals(map(kind, self.characters()[0]))

    def by_place_in_word(self) -> list[Total]:
        """A word is a run of letters, digits and apostrophes; what stands between words counts as that."""
        places, place = [], 0
        for c in self.characters()[0]:
            place = place + 1 if c[0].isalnum() or c[0] in "'’" else 0
            places.append("between words" if place == 0 else f"character {place}" if place < 6 else "character 6 on")
        return self.totals(places)

    def by_distance(self) -> list[Total]:
        """By how many characters stand before, in this text, for the model to go by."""
        return self.totals(map(reach, range(len(self.characters()[0]))))

    def totals(self, names: Iterable[str]) -> list[Total]:
        """Mean bits of the characters that share a name, in the order of first appearance."""
        sums: dict[str, list[float]] = {}
        for name, bits in zip(names, self.characters()[1].tolist(), strict=True):
            sums.setdefault(name, []).append(bits)
        return [Total(name, len(each), math.fsum(each) / len(each)) for name, each in sums.items()]


def kind(character: str) -> str:
    """Of a character, whatever marks it has."""
    character = character[0]
    if character == "\n":
        return "newline"
    if character.isspace():
        return "blank"
    if character.isdigit():
        return "digit"
    if character.isalpha():
        return "capital" if character.isupper() else "letter"
    return "punctuation"


def reach(at: int) -> str:
    """0 to 3, 4 to 15, 16 to 63, … characters."""
    low, high = 0, 4
    while at >= high:
        low, high = high, 4 * high
    return f"{low} to {high - 1} before"


def surprise(writer: Writer, text: str) -> Generator[Progress, None, Surprise]:
    """The cost of each code point of `text` in bits, from a blank page. A token's cost is shared by its bytes equally.

    Raises `SettingsError` for an empty text and `VocabularyError` for characters that the tokenizer cannot spell.
    """
    writer.must_go_on()
    if not text:
        raise SettingsError("there is no text to score: it is empty")
    ids = writer.tokenizer.encode(text)
    nats = []
    for part in token_nats(writer.model, ids, np.array([writer.tokenizer.start])):
        nats.append(part)
        yield Progress("scoring", sum(map(len, nats)), len(ids))
    sizes = np.array([len(token) for token in writer.tokenizer.tokens])[ids]  # (tokens,) bytes
    per_byte = np.repeat(np.concatenate(nats).astype(np.float64) / math.log(2) / sizes, sizes)
    width = np.array([len(utf8(c)) for c in text])
    starts = np.cumsum(width) - width
    return Surprise(text, np.add.reduceat(per_byte, starts))
