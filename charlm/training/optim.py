"""Optimizers and the course of the learning rate.

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101. Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon, with the
step size matched to AdamW's (Liu et al. 2025, arXiv:2502.16982, section 2.2) so that one learning rate serves both.
WSD schedule: Hu et al. 2024, arXiv:2404.06395, section 4. Inverse square root: Vaswani et al. 2017, arXiv:1706.03762,
section 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from charlm.config import TrainSettings
from charlm.device import multiplies_bf16
from charlm.training.sharding import adamw, assembled, dealt_out, local, numbered

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, and the singular values end between 0.7 and 1.2


def build_optimizers(model: nn.Module, settings: TrainSettings) -> list[Optimizer]:
    """One or two optimizers over all parameters. Weight decay is for matrices other than embeddings; with Muon not for
    the head.

    Their learning rate is a tensor on the device, so that a recorded step need not be recorded anew for another one.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    heads = {id(p) for name, p in model.named_parameters() if name.startswith("head.")}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for p in model.parameters():
        (matrices if p.dim() == 2 and id(p) not in embeddings else others).append(p)
    device = next(model.parameters()).device
    exact = torch.float64 if device.type == "cpu" else torch.float32  # which is what CUDA's fused AdamW reads
    lr, fused = torch.tensor(settings.lr, dtype=exact, device=device), device.type in ("cpu", "cuda")
    recordable = device.type == "cuda"
    common: dict[str, Any] = {"lr": lr, "betas": (0.9, settings.beta2), "fused": fused, "capturable": recordable}
    if settings.optimizer == "adamw":
        return [adamw([(matrices, settings.weight_decay), (others, 0.0)], **common)]
    hidden = [p for p in matrices if id(p) not in heads]
    others += [p for p in matrices if id(p) in heads]
    rest = adamw([(others, 0.0)], **common)
    return [rest, Muon(hidden, lr, settings.weight_decay)] if hidden else [rest]


class Muon(Optimizer):
    """Momentum whose update is made orthogonal. Matrices of one shape are updated together, in few large products."""

    found_inf: Tensor  # () 1 if the step is to change nothing, as gradient scalers tell fused optimizers

    def __init__(self, params: Iterable[nn.Parameter], lr: Tensor, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        skip = self.found_inf.bool()
        for group in self.param_groups:
            same: dict[tuple[torch.Size, ...], list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    same.setdefault((p.shape, local(p).shape), []).append(p)
            for ((rows, columns), _), ps in same.items():
                means = [local(self.momentum(p)) for p in ps]
                mean = torch.stack(means)  # (N, R, C), or of these matrices what this process has
                grad = torch.where(skip, mean, torch.stack([local(p.grad) for p in ps if p.grad is not None]))
                mean.lerp_(grad, 1 - MOMENTUM)
                update = dealt_out(orthogonal(assembled(grad.lerp(mean, MOMENTUM), ps[0])), ps[0])
                size = group["lr"] * torch.where(skip, 0, 0.2 * max(rows, columns) ** 0.5)  # 0.2: the RMS of AdamW's
                keep = torch.where(skip, 1, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_copy_(means, list(mean))
                torch._foreach_mul_([local(p) for p in ps], keep)
                torch._foreach_sub_([local(p) for p in ps], list(update * size))

    def momentum(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        mean: Tensor = state["momentum"]
        return mean


def orthogonal(x: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix of each in x (N, R, C), roughly, by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    dtype = x.dtype
    if x.size(1) > x.size(2):
        return orthogonal(x.mT).mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    x = x.bfloat16() if multiplies_bf16(x.device) else x
    for _ in range(5):
        gram = x @ x.mT  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(dtype)


def step_if_finite(optimizer: Optimizer, finite: Tensor) -> None:
    """One step of the optimizer, or none where `finite` () is False; then the gradients are dropped."""
    if optimizer.defaults.get("fused", True):
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # read on the device: nothing waits
    elif not finite:
        optimizer.zero_grad()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def load_optimizer(optimizer: Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Set an optimizer's state, {number of a parameter: {name: value}}; a value that was not saved is zero.

    Existing tensors are filled in place, because a recorded CUDA graph keeps their addresses.
    """
    weights = numbered(optimizer)
    if not optimizer.state:
        places = {p: place for place, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
        own = {places[weights[number]]: values for number, values in state.items()}
        optimizer.load_state_dict(optimizer.state_dict() | {"state": own})
        return
    for number, p in enumerate(weights):
        for key, value in optimizer.state[p].items():
            saved = state.get(number, {}).get(key)
            value.zero_() if saved is None else value.copy_(saved)


def rate(schedule: str, warmup: float, progress: float) -> float:
    """The learning rate as a share of its peak, at `progress` in [0, 1] through the budget."""
    if progress < warmup:
        return max(progress / warmup, 0.01)  # not 0: the first step should move something
    spent = (progress - warmup) / max(1 - warmup, 1e-9)  # of what the warm-up leaves
    if schedule == "linear":
        return 1 - spent
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * spent))
    if schedule == "wsd":
        return min(1.0, (1 - spent) / 0.4)  # stable, then down to zero in the last 40 %
    if schedule == "inverse-sqrt":
        return math.sqrt(warmup / progress)
    return 1.0


def set_rate(optimizers: list[Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"].fill_(lr)


def average_weight(decay: float, step: int) -> float:
    """What the newest weights count in the average: more early on, so that the start is soon forgotten."""
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, weight: Tensor) -> None:
    """Move the averaged weights towards the model's, by `weight` () of the way."""
    for mean, p in zip(average.parameters(), model.parameters(), strict=True):
        local(mean).lerp_(local(p), weight)
