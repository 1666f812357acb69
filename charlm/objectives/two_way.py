"""Guess each token of a text from those before it, and from those after it.

The two language models of Peters et al. 2018, arXiv:1802.05365, section 3.1, one of which reads the text turned around;
the loss is the mean of theirs. In training what the first one remembers is carried from a segment to the next, as in
`causal`. What follows a segment is not known yet, so the second begins each with nothing, and its first token, the last
of the segment, is not guessed.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from charlm.config import DataSpec
from charlm.evaluate import evaluate
from charlm.model import PAD, State, TwoWay, turned
from charlm.objectives._base import Arrays, Batch, Loss, Objective, summed_nats
from charlm.progress import Progress
from charlm.score import Measure, Score
from charlm.text.tokenizers import start_of


@dataclass(frozen=True)
class TwoWays(Objective):
    needs = TwoWay
    measure: ClassVar[Measure] = Measure("bits_per_byte_both_ways", "bits/byte (mean of both ways)")
    command = "features"

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:  # noqa: ARG002
        (windows,) = rows
        return Batch(windows[:, :-1].clamp(min=0), windows[:, 1:])

    def start(self, network: TwoWay, rows: int) -> State:
        return network.ways()[0].start(rows)

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        onwards, backwards = network.ways()
        real = batch.targets != PAD
        before = turned(batch.tokens, real).masked_fill(~real, PAD)
        out = onwards(batch.tokens, state)
        back = backwards(turned(batch.targets, real).clamp(min=0))
        nats = (summed_nats(out.logits, batch.targets) + summed_nats(back.logits, before)) / 2
        return Loss(nats, onwards.carry(out.state))

    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """The mean of two figures in bits per byte: of each byte given all that stands before it, as for `causal`, and
        of each byte given all that stands after it in this part, whose end is a newline."""
        network.eval()
        end = np.array([start_of(network.spec.tokens)])
        texts = (part.ids, part.before), (part.ids[::-1].copy(), end)
        scores = []
        for way, text in zip(network.ways(), texts, strict=True):
            scores.append((yield from evaluate(way, *text, chars=part.chars, bytes=part.bytes)))
        first, second = scores
        figures = {"forward_bits_per_byte": first.value, "backward_bits_per_byte": second.value}
        value, nats = (first.value + second.value) / 2, (first.nats_per_token + second.nats_per_token) / 2
        return first._replace(value=value, nats_per_token=nats, measure=self.measure, figures=figures)
