"""Read a text with gaps, then write what was in each of them: T5.

Raffel et al. 2020, arXiv:1910.10683, section 3.1.4 and figure 2. Spans of the text are hidden, and a sentinel stands
for each. What is written is the spans, each behind its sentinel, and a last sentinel:

    Thank you <X> me to your party <Y> week .        read
    <X> for inviting <Y> last <Z>                    written

As in the authors' code, how many tokens are hidden, in how many spans, follows from the length of the text, and chance
only says where. Where we differ: there every text begins clean and ends in a gap, and the last sentinel is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch

from charlm.config import Arg, DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.objectives._restoring import GAP, Damaged, Restoring, drawn
from charlm.score import Measure

SENTINELS = 100  # as many as T5 has


@dataclass(frozen=True)
class Span(Restoring):
    share: Annotated[float, Arg("share of the tokens that are hidden", min=0.01, max=0.9)] = 0.15
    span_length: Annotated[float, Arg("mean tokens of a hidden span", min=1, max=100)] = 3.0

    symbols = guessed = 1 + SENTINELS

    @property
    def measure(self) -> Measure:
        """Of gaps like these: other gaps are another task."""
        words = f"bits/missing byte (span {self.share:g} x {self.span_length:g})"
        return Measure("bits_per_missing_byte", words, across=False)  # shares and spans are of tokens

    def counts(self, clean: int) -> tuple[int, int]:
        """How many of so many tokens are hidden, and in how many spans, between which a token stays."""
        hidden = max(1, min(round(self.share * clean), clean - 1))
        return hidden, max(1, min(round(hidden / self.span_length), clean - hidden + 1, hidden))

    def damage(self, clean: list[int], spec: DataSpec, rng: torch.Generator) -> Damaged:
        hidden, spans = self.counts(len(clean))
        lengths = parts(hidden, spans, rng)
        around = parts(len(clean) - hidden + 2, spans + 1, rng)  # tokens that stay; one more at both ends, so 0 may be
        gaps, at = list[tuple[int, int]](), -1
        for kept, length in zip(around, lengths, strict=False):
            gaps.append((at + kept, at + kept + length))
            at += kept + length
        return Damaged(clean, *with_gaps(clean, gaps, spec.vocab_size + 1))

    def sizes(self, clean: int) -> tuple[int, int]:
        hidden, spans = self.counts(clean)
        return clean, hidden + spans + 2

    def room(self, lengths: Lengths) -> Lengths:
        _, spans = self.counts(lengths.training)
        if spans >= SENTINELS:
            raise SettingsError(
                f"--share {self.share:g} of {lengths.training} tokens in spans of --span-length {self.span_length:g} "
                f"are {spans} gaps, and there are sentinels for {SENTINELS - 1}; give a shorter --seq-len or longer "
                "spans",
                field="share",
            )
        return super().room(lengths)

    def fits(self, tokens: int, gaps: int, lengths: Lengths) -> bool:
        return tokens + gaps <= lengths.source and gaps <= self.counts(lengths.training)[1]

    def source(self, text: list[int], spec: DataSpec) -> list[int]:
        sentinels = iter(range(spec.vocab_size + 1, spec.input_size))
        return [next(sentinels) if id == GAP else id for id in text]

    def written(self, text: list[int], symbols: int, spec: DataSpec) -> tuple[list[int], list[int]]:  # noqa: ARG002
        return [spec.vocab_size, spec.vocab_size + 1], [spec.vocab_size + 2]

    def restored(self, source: list[int], written: list[int], spec: DataSpec) -> list[int]:
        spans: dict[int, list[int]] = {}
        for id in written:
            if id > spec.vocab_size:
                last = spans.setdefault(id, [])
            elif spans and id < spec.vocab_size:
                last.append(id)
        return [clean for id in source for clean in (spans.get(id, []) if id > spec.vocab_size else [id])]


def parts(total: int, count: int, rng: torch.Generator) -> list[int]:
    """`count` positive numbers whose sum is `total`, each choice of them as likely as any other."""
    cuts = [0, *(1 + cut for cut in drawn(count - 1, total - 1, rng)), total]
    return [b - a for a, b in pairwise(cuts)]


def with_gaps(ids: Sequence[int], gaps: Sequence[tuple[int, int]], sentinel: int) -> tuple[list[int], list[int]]:
    """(what is read, what is written) of ids with gaps from a place to before another; sentinels count up."""
    read, written, at = list[int](), list[int](), 0
    for number, (start, end) in enumerate(gaps, sentinel):
        read += [*ids[at:start], number]
        written += [number, *ids[start:end]]
        at = end
    return read + list(ids[at:]), [*written, sentinel + len(gaps)]
