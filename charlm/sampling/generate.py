"""The generator: one sampler for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from charlm.model import LanguageModel, Stepper, repeated

AHEAD = {"cuda": 16}  # tokens that a device writes before they are fetched: each fetch waits for it


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    pick: Callable[[Tensor], Tensor],
    *,
    samples: int = 1,
    step: Stepper | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Continue `prompt` (1, P), P >= 1, in `samples` rows without end: yields (ids (B,), logits (B, V)) per token.

    `pick` turns logits (B, V) into ids (B,). `step` is a stepper of the model for so many rows that nobody else uses
    meanwhile; by default one is made. The prompt is read once, whatever the number of rows.
    """
    model.eval()
    token, step = prompt[:, -1].expand(samples), step or model.stepper(samples)
    step.begin(repeated(model.read(prompt[:, :-1]), samples))
    while True:
        logits = step(token)
        token = pick(logits)
        yield token, logits


def fetched(steps: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """What `generate` yields, after the ids as numbers."""
    for first in steps:
        ahead = [first, *islice(steps, AHEAD.get(first[0].device.type, 1) - 1)]
        for ids, step in zip(torch.stack([ids for ids, _ in ahead]).tolist(), ahead, strict=True):
            yield ids, *step
