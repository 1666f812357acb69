"""Where a text surprises a model: the bits of every character, and means by class, place in the word and distance."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from charlm.errors import SettingsError
from charlm.evaluate import rows_at_once, token_nats
from charlm.objectives._hiding import MASK, Hiding
from charlm.progress import Progress
from charlm.score import BITS, Measure
from charlm.text.characters import characters
from charlm.text.tokenizers import utf8
from charlm.text.units import Ids
from charlm.writer import Writer

PSEUDO = Measure("pseudo_bits_per_byte", "pseudo-bits/byte", across=False)
"""Of a pseudo-log-likelihood (Salazar et al. 2020, arXiv:1910.14659, section 2): each token is hidden in turn, and
guessed from all others. No text could be written or compressed so, and no such score compares with bits per byte."""

HOT = 8.0  # bits at which a character is shown in full red: a probability of 1/256

Bits = NDArray[np.float64]


class Total(NamedTuple):
    """The mean over a group of characters, each with its marks and joiners."""

    name: str
    chars: int
    bits: float  # per character


class Surprise(NamedTuple):
    """The bits that a text costs a model, by code point."""

    text: str
    bits: Bits  # (code points,)
    measure: Measure = BITS  # of their mean per byte; or `PSEUDO`

    @property
    def value(self) -> float:
        """In the measure."""
        return float(self.bits.sum()) / len(utf8(self.text))

    @property
    def bits_per_byte(self) -> float:
        assert self.measure == BITS, self.measure
        return self.value

    def characters(self) -> tuple[list[str], Bits]:
        """(characters, each with its marks; their bits)."""
        cut = characters(self.text)
        return cut, np.add.reduceat(self.bits, np.cumsum([0, *map(len, cut[:-1])]))

    def lines(self) -> list[tuple[list[str], Bits]]:
        """The characters of each line, its newline included, and their bits."""
        cut, bits = self.characters()
        ends = [end for end, c in enumerate(cut, 1) if c == "\n" or end == len(cut)]
        return [(cut[start:end], bits[start:end]) for start, end in pairwise([0, *ends])]

    def by_class(self) -> list[Total]:
        return self.totals(map(kind, self.characters()[0]))

    def by_place_in_word(self) -> list[Total]:
        """By position in the word, which is a run of letters, digits and apostrophes, or between words."""
        names, position = [], 0
        for c in self.characters()[0]:
            position = position + 1 if c[0].isalnum() or c[0] in "'’" else 0
            names.append(
                "between words" if position == 0 else f"character {position}" if position < 6 else "character 6 on"
            )
        return self.totals(names)

    def by_distance(self) -> list[Total]:
        """By the number of characters before, which are the context of the model."""
        return self.totals(map(reach, range(len(self.characters()[0]))))

    def breakdowns(self) -> dict[str, list[Total]]:
        """Mean bits of groups of characters, by what they are grouped by."""
        return {
            "kind of character": self.by_class(),
            "place in a word": self.by_place_in_word(),
            "text before it": self.by_distance(),
        }

    def to_json(self) -> dict[str, Any]:
        lines = [{"text": "".join(line).rstrip("\n"), "bits": float(bits.sum())} for line, bits in self.lines()]
        totals = {
            title.replace(" ", "_"): [total._asdict() for total in totals]
            for title, totals in self.breakdowns().items()
        }
        return {
            self.measure.name: self.value,
            "text": self.text,
            "bits": self.bits.round(4).tolist(),
            "lines": lines,
            **totals,
        }

    def totals(self, names: Iterable[str]) -> list[Total]:
        """Mean bits of the characters that share a name, in the order of first appearance."""
        groups: dict[str, list[float]] = {}
        for name, cost in zip(names, self.characters()[1].tolist(), strict=True):
            groups.setdefault(name, []).append(cost)
        return [Total(name, len(bits), math.fsum(bits) / len(bits)) for name, bits in groups.items()]


def kind(character: str) -> str:
    """The class of a character, whatever marks it has."""
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


def reach(before: int) -> str:
    """The name of a distance: 0 to 3, 4 to 15, 16 to 63, … characters before."""
    low, high = 0, 4
    while before >= high:
        low, high = high, 4 * high
    return f"{low} to {high - 1} before"


def surprise(writer: Writer, text: str) -> Generator[Progress, None, Surprise]:
    """The bits of each code point of `text`, without a text before it. The bits of a token are divided among its bytes.

    Of a run that was trained to guess hidden tokens, those of the pseudo-log-likelihood (`PSEUDO`).

    Raises `SettingsError` for an empty text and `VocabularyError` for characters that the vocabulary lacks.
    """
    objective = writer.objective
    if not isinstance(objective, Hiding):
        writer.check_can_continue()
    if not text:
        raise SettingsError("there is no text to score: it is empty")
    ids = writer.tokenizer.encode(text)
    if isinstance(objective, Hiding):
        measure, parts = PSEUDO, pseudo_nats(writer, objective, ids)
    else:
        measure, parts = BITS, token_nats(writer.model, ids, np.array([writer.tokenizer.start]))
    nats = []
    for part in parts:
        nats.append(part)
        yield Progress("scoring", sum(map(len, nats)), len(ids))
    sizes = np.array([len(token) for token in writer.tokenizer.tokens])[ids]  # (tokens,) bytes
    per_byte = np.repeat(np.concatenate(nats).astype(np.float64) / math.log(2) / sizes, sizes)
    widths = np.array([len(utf8(c)) for c in text])  # (code points,) bytes
    starts = np.cumsum(widths) - widths
    return Surprise(text, np.add.reduceat(per_byte, starts), measure)


@torch.inference_mode()
def pseudo_nats(writer: Writer, objective: Hiding, ids: Ids) -> Iterator[NDArray[np.float32]]:
    """The cost in nats of each token of a text (N,), hidden alone, in the middle of as much text as the model reads."""
    model, text = writer.model, torch.from_numpy(ids)
    size = min(len(ids), objective.at_once(model.spec))
    rows = rows_at_once(size, model.spec.vocab_size)
    for places in torch.split(torch.arange(len(ids)), rows):
        starts = (places - size // 2).clamp(0, len(ids) - size)
        fed = text[starts[:, None] + torch.arange(size)]  # (B, S)
        own = (places - starts)[:, None]
        logits = objective.guesses(model, fed.scatter(1, own, model.spec.vocab_size + MASK).to(writer.device)).cpu()
        guess = logits[torch.arange(len(own)), own[:, 0]].float()  # (B, V)
        yield F.cross_entropy(guess, text[places], reduction="none").numpy()
