"""Objectives: ways of showing text to a model. The loss is the same for all of them.

causal    guess each token from those before it (teacher forcing)
continue  read the first part of a window, then guess each token of the rest (encoder and decoder)
pairs     read the source, then guess each token of the target, from the newline before it to the one at its end
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.model import PAD


class Batch(NamedTuple):
    tokens: Tensor  # (B, T) what the model is fed
    targets: Tensor  # (B, T) what it should say there; PAD is not scored
    source: Tensor | None = None  # (B, S) what an encoder reads first


Objective = Callable[..., Batch]
"""Turns windows (B, T + 1) of consecutive tokens, padded on the right, into a batch; `pairs` turns source and target
into one. What is fed after the end of a row does not count."""


def causal(windows: Tensor) -> Batch:
    return Batch(windows[:, :-1].clamp(min=0), windows[:, 1:])


def continue_(windows: Tensor) -> Batch:
    """One batch in eight has a shorter source, so that a short prompt and a blank page are familiar too."""
    windows = windows[:, (windows != PAD).any(0)]  # at most one column is partly padding now: the last, of targets
    half = (windows.size(1) - 1) // 2
    source = windows[:, :half]
    if torch.rand(()) < 1 / 8:
        source = source[:, int(torch.randint(half + 1, ())) :]
    return Batch(windows[:, half:-1], windows[:, half + 1 :], source)


def pairs(source: Tensor, target: Tensor) -> Batch:
    """source (B, S), target (B, T + 1), both padded on the right."""
    return Batch(target[:, :-1].clamp(min=0), target[:, 1:], source)


OBJECTIVES: dict[str, Objective] = {"causal": causal, "continue": continue_, "pairs": pairs}


def summed_nats(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the scored targets: logits (B, T, V), targets (B, T) -> ().

    `smoothing` is the share of a target's weight that is spread over the vocabulary (Szegedy et al. 2016,
    arXiv:1512.00567, section 7).
    """
    flat = logits.flatten(0, 1).float()
    return F.cross_entropy(flat, targets.flatten(), ignore_index=PAD, reduction="sum", label_smoothing=smoothing)
