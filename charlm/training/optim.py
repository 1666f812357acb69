"""Optimizers and the course of the learning rate.

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101. Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon, with the
step size matched to AdamW's (Liu et al. 2025, arXiv:2502.16982, section 2.2) so that one learning rate serves both.
WSD schedule: Hu et al. 2024, arXiv:2404.06395, section 4. Inverse square root: Vaswani et al. 2017, arXiv:1706.03762,
section 5.3. Slanted triangle and rates by stage: Howard & Ruder 2018, arXiv:1801.06146, sections 3.2 and 3.3.
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
from charlm.model import Network
from charlm.prune import matrices
from charlm.training.sharding import adamw, assembled, dealt_out, local, numbered

MOMENTUM = 0.95
SLANT = 32  # how many times the lowest rate of the slanted triangle is the highest
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, and the singular values end between 0.7 and 1.2


def build_optimizers(model: Network, settings: TrainSettings) -> list[Optimizer]:
    """The optimizers of `fresh_optimizers`; with `keep_zeros` no step of theirs changes a pruned weight."""
    optimizers = fresh_optimizers(model, settings)
    if settings.keep_zeros:
        for optimizer in optimizers:
            keep_zeros(optimizer, list(matrices(model).values()))
    return optimizers


def keep_zeros(optimizer: Optimizer, weights: list[nn.Parameter]) -> None:
    """From now on let steps leave at zero what is zero in these weights. A step looks at the weights alone, so a
    resumed training needs no mask."""
    kept = list[Tensor]()

    @torch.no_grad()
    def before(*_: Any) -> None:
        kept[:] = [p != 0 for p in weights]

    @torch.no_grad()
    def after(*_: Any) -> None:
        for p, mask in zip(weights, kept, strict=True):
            p.mul_(mask)

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def fresh_optimizers(model: Network, settings: TrainSettings) -> list[Optimizer]:
    """One or two optimizers over all parameters. Weight decay is for matrices other than embeddings; with Muon not for
    the head.

    A learning rate is a tensor on the device, so that a recorded step need not be recorded anew for another one: one
    for all, or one for each stage where stages differ in it (`set_rate`).
    """
    muon = settings.optimizer == "muon"
    device = next(model.parameters()).device
    exact = torch.float64 if device.type == "cpu" else torch.float32  # which is what CUDA's fused AdamW reads
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    heads = {id(p) for name, p in model.named_parameters() if name.startswith(("head.", "body.head."))}
    alike = settings.layer_decay == 1 and settings.unfreeze == "all"
    decayed, others = list[dict[str, Any]](), list[dict[str, Any]]()  # groups of parameters
    for depth, parameters in enumerate([list(model.parameters())] if alike else stages_from_top(model)):
        lr = torch.tensor(settings.lr, dtype=exact, device=device)
        stage = {"lr": lr, "depth": depth, "share": settings.layer_decay**-depth}
        matrices = [p for p in parameters if p.dim() == 2 and id(p) not in embeddings]
        apart = [p for p in matrices if muon and id(p) in heads]
        hidden = [p for p in matrices if not (muon and id(p) in heads)]
        known = {id(p) for p in matrices}
        decayed.append({"params": hidden, "weight_decay": settings.weight_decay, **stage})
        others.append({"params": [p for p in parameters if id(p) not in known] + apart, "weight_decay": 0.0, **stage})
    fused, recordable = device.type in ("cpu", "cuda"), device.type == "cuda"
    groups = others if muon else decayed + others
    rest = adamw(groups, betas=(0.9, settings.beta2), fused=fused, capturable=recordable)
    for_muon = [group for group in decayed if group["params"]]
    return [rest, Muon(for_muon)] if muon and for_muon else [rest]


def stages_from_top(model: Network) -> list[list[nn.Parameter]]:
    """The parameters of each stage that has some, the head's first.

    What two stages share is the lower one's, and what belongs to none is the lowest one's.
    """
    seen: set[int] = set()
    stages = []
    for part in model.stages():
        own = [p for p in part.parameters() if id(p) not in seen]
        seen |= {id(p) for p in own}
        stages += [own] if own else []
    stages[0] += [p for p in model.parameters() if id(p) not in seen]
    return stages[::-1]


def thawed(unfreeze: str, epochs: float) -> float:
    """How many stages learn after so many epochs, counted from the head (Howard & Ruder 2018, section 3.3)."""
    return {"all": math.inf, "head": 1, "gradual": 1 + int(epochs)}[unfreeze]


class Muon(Optimizer):
    """Momentum whose update is made orthogonal. Matrices of one shape are updated together, in few large products."""

    found_inf: Tensor  # () 1 if the step is to change nothing, as gradient scalers tell fused optimizers

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        """Groups with `params`, `lr` and `weight_decay`."""
        super().__init__(groups, {})

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
    if schedule == "slanted":
        slope = progress / warmup if progress < warmup else (1 - progress) / max(1 - warmup, 1e-9)
        return (1 + slope * (SLANT - 1)) / SLANT
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


def set_rate(optimizers: list[Optimizer], lr: float, thawed: float = math.inf) -> None:
    """Give each stage its share of `lr`, and those below the `thawed` ones none: then nothing of them changes."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"].fill_(lr * group.get("share", 1.0) if group.get("depth", 0) < thawed else 0.0)


def average_weight(decay: float, step: int) -> float:
    """What the newest weights count in the average: more early on, so that the start is soon forgotten."""
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, weight: Tensor) -> None:
    """Move the averaged weights towards the model's, by `weight` () of the way."""
    for mean, p in zip(average.parameters(), model.parameters(), strict=True):
        local(mean).lerp_(local(p), weight)
