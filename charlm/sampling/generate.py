"""Autoregressive generation, the same for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from charlm.model import LanguageModel, Stepper, repeated

AHEAD = {"cuda": 16}  # tokens that are generated before they are copied to the host: every copy waits for the device


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

    `pick` turns logits (B, V) into ids (B,). `step` is a stepper of the model for `samples` rows that nothing else uses
    meanwhile; by default a new one. The prompt is read once, whatever the number of rows.
    """
    model.eval()
    token, step = prompt[:, -1].expand(samples), step or model.stepper(samples)
    step.begin(repeated(model.read(prompt[:, :-1]), samples))
    while True:
        logits = step(token)
        token = pick(logits)
        yield token, logits


def fetched(steps: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """(ids as a list of ints, ids (B,), logits (B, V)) for everything that `generate` yields."""
    for first in steps:
        ahead = [first, *islice(steps, AHEAD.get(first[0].device.type, 1) - 1)]
        for numbers, step in zip(torch.stack([ids for ids, _ in ahead]).tolist(), ahead, strict=True):
            yield numbers, *step
