"""Objectives: ways of showing text to a model. The loss is the same for all of them.

causal    guess each token from those before it (teacher forcing)
continue  read the first part of a window, then guess each token of the rest (encoder and decoder)
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.model import PAD


class Batch(NamedTuple):
    tokens: Tensor  # (B, T) what the model is fed
    targets: Tensor  # (B, T) what it should say there; PAD is not scored
    source: Tensor | None = None  # (B, S) what an encoder reads first


class Objective(Protocol):
    """Turns windows (B, T + 1) of consecutive tokens into a batch."""

    def __call__(self, windows: Tensor) -> Batch: ...


def causal(windows: Tensor) -> Batch:
    return Batch(windows[:, :-1], windows[:, 1:])


def continue_(windows: Tensor) -> Batch:
    """One batch in eight has a shorter source, so that a short prompt and a blank page are familiar too."""
    half = (windows.size(1) - 1) // 2
    source = windows[:, :half]
    if torch.rand(()) < 1 / 8:
        source = source[:, int(torch.randint(half + 1, ())) :]
    return Batch(windows[:, half:-1], windows[:, half + 1 :], source)


OBJECTIVES: dict[str, Objective] = {"causal": causal, "continue": continue_}


def summed_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the scored targets: logits (B, T, V), targets (B, T) -> ()."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=PAD, reduction="sum")
