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
import torch.nn.functional as F
from numpy.typing import NDArray

from charlm.config import DataSpec
from charlm.evaluate import LOGITS, score_of
from charlm.model import PAD, EncoderDecoder
from charlm.objectives._base import Arrays, Batch
from charlm.objectives._guess import Guessing
from charlm.progress import Progress
from charlm.score import Score
from charlm.text.buckets import Buckets, pair_batch

AT_ONCE = 4096  # tokens of the longer side of pairs that are scored together


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
    tokens = max(1, min(AT_ONCE, LOGITS // model.spec.vocab_size))
    buckets = Buckets(source, target, batch_tokens=tokens, seed=0)
    order, _ = buckets.epoch(0)
    nats = np.zeros(len(target))
    model.eval()
    for first, end in pairwise(buckets.borders):
        nats[order[first:end]] = batch_nats(model, pair_batch(source, target, order[first:end]))
        yield Progress("scoring", end, len(target))
    return nats


@torch.inference_mode()
def batch_nats(model: EncoderDecoder, lines: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.float32]:
    """The same of the pairs in one batch, (B,)."""
    device = next(model.parameters()).device
    batch = shown(tuple(torch.from_numpy(side).to(device) for side in lines))
    logits = model(batch.tokens, source=batch.source).logits
    nats = F.cross_entropy(logits.mT.float(), batch.targets, reduction="none", ignore_index=PAD)  # (B, T)
    return nats.sum(1).cpu().numpy()


def pair_score(part: Any, nats: NDArray[np.float64]) -> Score:
    """What `pair_nats` (pairs,) come to."""
    context = int((part.source.sizes + part.target.sizes).max())  # a target's newline also stands before it
    return score_of(float(nats.sum()), len(part), part.chars, part.bytes, context)
