"""Read a source, then guess each token of its target, from the newline before it to the one at its end.

Sutskever, Vinyals & Le 2014, arXiv:1409.3215, section 2.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.config import DataSpec
from charlm.evaluate import AT_ONCE, LOGITS, costs, score_of
from charlm.model import EncoderDecoder
from charlm.objectives._base import Arrays, Batch
from charlm.objectives._guess import Guessing
from charlm.progress import Progress
from charlm.score import Score
from charlm.text.buckets import Buckets, pair_batch

TOKENS = 4096  # that a CPU scores together


@dataclass(frozen=True)
class Pairs(Guessing):
    kind = "pairs"
    needs = EncoderDecoder

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:  # noqa: ARG002
        return shown(rows)

    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """Bits per byte of the targets, each byte given its source and the target so far."""
        return pair_score(part, (yield from pair_nats(network, part)))


def shown(rows: Arrays) -> Batch:
    source, target = rows
    return Batch(target[:, :-1].clamp(min=0), target[:, 1:], source)


def pair_nats(model: EncoderDecoder, part: Any) -> Generator[Progress, None, NDArray[np.float64]]:
    """What each target costs in nats, its newline included, (pairs,)."""
    source, target = part.source, part.target
    tokens = batch_tokens(model.spec.vocab_size, next(model.parameters()).device)
    buckets = Buckets.of_pairs(source, target, batch_tokens=tokens, seed=0)
    order, _ = buckets.epoch(0)
    nats = np.zeros(len(target))
    model.eval()
    for first, end in pairwise(buckets.borders):
        nats[order[first:end]] = batch_nats(model, pair_batch(source, target, order[first:end]))
        yield Progress("scoring", end, len(target))
    return nats


def batch_tokens(vocab_size: int, device: torch.device) -> int:
    """Of the longer side of pairs that are scored together, as is fastest on a device (`evaluate.layout`); by copying
    a vector has a number for each token of the vocabulary."""
    tokens, numbers = (AT_ONCE, 8 * LOGITS) if device.type == "cuda" else (TOKENS, LOGITS)
    return max(1, min(tokens, numbers // vocab_size))


@torch.inference_mode()
def batch_nats(model: EncoderDecoder, lines: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.float32]:
    """The same of the pairs in one batch, (B,)."""
    device = next(model.parameters()).device
    batch = shown(tuple(torch.from_numpy(side).to(device) for side in lines))
    assert batch.source is not None, "pairs have one"
    hidden = model.features(batch.tokens, model.read(batch.source)).hidden
    return costs(model, hidden, batch.targets).sum(1).cpu().numpy()


def pair_score(part: Any, nats: NDArray[np.float64]) -> Score:
    """What `pair_nats` (pairs,) come to."""
    context = int((part.source.sizes + part.target.sizes).max())  # a target's newline also stands before it
    return score_of(float(nats.sum()), len(part), part.chars, part.bytes, context)
