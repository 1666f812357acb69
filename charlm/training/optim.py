"""Optimizers and the course of the learning rate.

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101. Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon, with the
step size matched to AdamW's (Liu et al. 2025, arXiv:2502.16982, section 2.2) so that one learning rate serves both.
WSD schedule: Hu et al. 2024, arXiv:2404.06395, section 4.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from charlm.config import TrainSettings


def build_optimizers(model: nn.Module, settings: TrainSettings) -> list[Optimizer]:
    """One or two optimizers over all parameters. Weight decay pulls at matrices, not at embeddings or biases."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    heads = {id(p) for name, p in model.named_parameters() if name.startswith("head.")}
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for p in model.parameters():
        (matrices if p.dim() == 2 and id(p) not in embeddings else rest).append(p)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    common: dict[str, Any] = {"lr": settings.lr, "betas": (0.9, settings.beta2), "fused": fused}
    if settings.optimizer == "adamw":
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return [AdamW([g for g in groups if g["params"]], **common)]
    hidden = [p for p in matrices if id(p) not in heads]
    rest += [p for p in matrices if id(p) in heads]
    adamw = AdamW(rest, weight_decay=0.0, **common)
    if not hidden:
        return [adamw]
    muon = Muon(hidden, lr=settings.lr, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [adamw, muon]


def rate(schedule: str, warmup: float, progress: float) -> float:
    """The learning rate as a share of its peak, at `progress` in [0, 1] through the budget."""
    if progress < warmup:
        return max(progress / warmup, 0.01)  # not 0: the first step should move something
    rest = (progress - warmup) / max(1 - warmup, 1e-9)
    if schedule == "linear":
        return 1 - rest
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * rest))
    if schedule == "wsd":
        return min(1.0, (1 - rest) / 0.4)  # stable, then down to zero in the last 40 %
    return 1.0


def set_rate(optimizers: list[Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the model's; faster early on, so that the start is soon forgotten."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for mean, p in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(p, weight)
