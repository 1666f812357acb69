"""Scores: how well a network does on a held-out part, in the measure of what it was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Measure(NamedTuple):
    """What a score is counted in. Only scores in one measure are ranked together."""

    name: str  # in files and JSON
    unit: str  # as people read it
    more: bool = False  # whether more of it is better
    across: bool = True  # whether runs with different vocabularies compare; what is counted per token does not
    scored: str = "token"  # one of the things that are scored

    @property
    def words(self) -> str:
        """The unit in a sentence: bits per byte."""
        return self.unit.replace("/", " per ")

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.more else one < other


BITS = Measure("bits_per_byte", "bits/byte")
"""The only one that compares across tokenizers: for guesses of each byte from what stands before it."""


COUNTS = ("tokens", "chars", "bytes", "context")


class Score(NamedTuple):
    """What a held-out part comes to."""

    value: float  # in the measure
    nats_per_token: float
    tokens: int  # that were scored
    chars: int
    bytes: int
    context: int  # the most tokens that any guess could look back on
    measure: Measure = BITS
    figures: Mapping[str, float] = {}  # what else was found, by name

    @property
    def bits_per_byte(self) -> float:
        """The value of a score in that measure."""
        assert self.measure == BITS, self.measure
        return self.value

    @property
    def nats_per_char(self) -> float:
        return self.nats_per_token * self.tokens / max(self.chars, 1)  # bytes may be scored that begin no character

    def to_json(self) -> dict[str, Any]:
        """The value stands under the measure's name."""
        counts = {name: getattr(self, name) for name in COUNTS}
        nats = {"nats_per_token": self.nats_per_token, "nats_per_char": self.nats_per_char}
        more = {"figures": dict(self.figures)} if self.figures else {}
        return {self.measure.name: self.value, **nats, **counts, **more, "measure": list(self.measure)}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Score:
        """The inverse. Raises KeyError, TypeError or ValueError for what is no score."""
        measure = Measure(*said["measure"])
        counts = {name: int(said[name]) for name in COUNTS}
        figures = {str(name): float(value) for name, value in said.get("figures", {}).items()}
        return cls(float(said[measure.name]), float(said["nats_per_token"]), **counts, measure=measure, figures=figures)
