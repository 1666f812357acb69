"""Weights spread over the processes of one training, by PyTorch's own means.

`--parallel fsdp` (Zhao et al. 2023, arXiv:2304.11277): a process holds a part of every weight, of its gradient and of
its optimizer state; weights are fetched for the time in which they compute, and gradients are summed and dealt out
again. `--parallel tensor` (Shoeybi et al. 2019, arXiv:1909.08053, section 3): a process computes some heads of every
attention and some inner units of every feed-forward layer; all else is whole and computed by all alike.

A weight that is spread is a `DTensor`, and so are its gradient and its optimizer state. `whole` and `part` lead from
there to plain tensors and back. Nothing here is imported or done where each process has all weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from charlm import archs
from charlm.archs._attention import Attention
from charlm.archs._blocks import Block, FeedForward
from charlm.archs._rules import Summary
from charlm.errors import SettingsError
from charlm.model import Network, State
from charlm.objectives._base import Batch, Loss, Objective
from charlm.training.world import World, reported

SHARES = {"ddp": "", "fsdp": "with a part of every weight, ", "tensor": "with a part of every layer, "}


class Learner(nn.Module):
    """A network with what it is trained for: all that a step computes of a batch is one call, which FSDP watches."""

    def __init__(self, network: Any, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, batch: Batch, state: State) -> Loss:
        return self.objective.loss(self.network, batch, state)


def spreads(parallel: str, world: World) -> bool:
    """Whether a process does not hold all weights."""
    return parallel != "ddp" and world.size > 1


def held(parallel: str, world: World) -> float:
    """How much of the memory for weights, gradients and optimizer state a process needs, at least.

    At first each has all weights, and tries a step; later the first one has a copy of all weights beside its part.
    """
    return max(1 / 2, 1 / 4 + 1 / world.size) if spreads(parallel, world) else 1.0


def refuse(parallel: str, outline: Network, world: World) -> None:
    """Raise `SettingsError` for a network whose layers cannot be split over the processes."""
    if parallel != "tensor" or world.size == 1:
        return
    others = "--parallel fsdp spreads the weights of every network"
    if not outline.splits:
        able = ", ".join(name for name in archs.names() if archs.load(name).splits)
        raise SettingsError(
            f"--parallel tensor splits the layers of {able}, and not those of {type(outline).__name__}; {others}",
            field="parallel",
        )
    for module in outline.modules():
        heads = module.heads if isinstance(module, Attention) else 0
        inner = module.out.in_features if isinstance(module, FeedForward) else 0
        if heads % world.size or inner % world.size:
            needed = "--heads" if heads else "--hidden-size or another --activation: the inner units of a layer must be"
            raise SettingsError(
                f"--parallel tensor with {world.size} processes needs {needed} a multiple of {world.size}, "
                f"got {heads or inner}; {others}",
                field="parallel",
            )
        if isinstance(module, Block) and module.pattern and any(isinstance(r, Summary) for r in module.pattern.rules):
            raise SettingsError(
                f"--parallel tensor gives all heads of a layer one pattern, and --pattern fixed has several; {others}",
                field="parallel",
            )


def spread(parallel: str, learner: Learner, network: Network, average: Network | None, device: torch.device) -> None:
    """Spread the weights of a network, and their average, over all processes; these have the same ones before."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    networks = [network] if average is None else [network, average]
    if parallel == "tensor":
        for each in networks:
            split(each, mesh)
        return
    shard(learner, network.units(), mesh)
    if average is not None:
        shard(average, (), mesh)


def shard(root: nn.Module, units: Sequence[nn.Module], mesh: Any) -> None:
    """Deal out the rows of every weight, with FSDP: of the `units` one by one, where there are several, and of all else
    together. Gradients become sums over the processes, not means."""
    from torch.distributed.fsdp import fully_shard

    warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # returned a view, such as keys: nothing changes these
    warnings.filterwarnings("ignore", "RNN module weights are not")  # in one piece, so cuDNN copies them
    for module in (*(units if len(units) > 1 else ()), root):
        sharded = fully_shard(module, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # which every backend can


@torch.no_grad()
def split(network: Network, mesh: Any) -> None:
    """Deal out heads and inner units: columns of one linear layer, and rows of the one that reads them."""
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    for module in list(network.modules()):
        if isinstance(module, Attention):
            first, names = module.qkv, ("qkv", "out")
            module.heads //= mesh.size()
        elif isinstance(module, FeedForward):
            first, names = module.up, ("up", "out")
        else:
            if isinstance(module, Block) and module.pattern is not None:
                module.pattern = replace(module.pattern, heads=module.pattern.heads // mesh.size())
            continue
        sides = first.out_features // module.out.in_features  # queries, keys, values; both halves of a gated layer
        for p in first.parameters(recurse=False):
            p.copy_(dealt(p, sides, mesh.size()))
        parallelize_module(module, mesh, dict(zip(names, (ColwiseParallel(), RowwiseParallel()), strict=True)))
        for p in first.parameters(recurse=False):
            p.sides = sides  # type: ignore[attr-defined]


def dealt(t: Tensor, sides: int, size: int) -> Tensor:
    """The rows of t, which has so many sides, in an order in which one of `size` equal parts has its share of each."""
    return t.view(sides, size, -1, *t.shape[1:]).transpose(0, 1).reshape(t.shape)


def is_spread(t: Tensor) -> bool:
    return hasattr(t, "device_mesh")


def is_alike(t: Any) -> bool:
    """Whether a weight is whole in every process."""
    return not is_spread(t) or all(placement.is_replicate() for placement in t.placements)


def local(t: Any) -> Tensor:
    """What this process has of a tensor: its memory, not a copy. Without gradients."""
    mine: Tensor = t.to_local() if is_spread(t) else t
    return mine


@torch.no_grad()
def whole(t: Any, p: Any) -> Tensor:
    """All of a weight `p`, or of what belongs to it and may be spread like it. To be called in all processes."""
    if not is_spread(t):
        return t  # type: ignore[no-any-return]
    with reported(computing=True):
        full: Tensor = t.full_tensor()
    sides = getattr(p, "sides", 1)
    return full if sides == 1 else dealt(full, p.device_mesh.size(), sides)


@torch.no_grad()
def part(t: Tensor, p: Any) -> Tensor:
    """The inverse of `whole`: a tensor as it is for a weight `p`, and spread like it if it is of its shape."""
    if not is_spread(p) or t.shape != p.shape:
        return t
    from torch.distributed.tensor import distribute_tensor

    t, sides = t.to(p.device), getattr(p, "sides", 1)
    t = t if sides == 1 else dealt(t, sides, p.device_mesh.size())
    spread: Tensor = distribute_tensor(t, p.device_mesh, p.placements, src_data_rank=None)
    return spread


def assembled(mine: Tensor, p: Any) -> Tensor:
    """(N, R, C) whole matrices, from what this process has of each of them. All are spread like `p`."""
    if not is_spread(p):
        return mine
    from torch.distributed.tensor import DTensor

    shape = torch.Size([len(mine), *p.shape])
    stride = (p.shape.numel(), p.size(1), 1)
    mats = DTensor.from_local(mine, p.device_mesh, stacked(p), run_check=False, shape=shape, stride=stride)
    return mats.full_tensor()


def dealt_out(matrices: Tensor, p: Any) -> Tensor:
    """The inverse of `assembled`."""
    if not is_spread(p):
        return matrices
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(matrices, p.device_mesh, stacked(p), src_data_rank=None).to_local()


def stacked(p: Any) -> list[Any]:
    """How matrices (N, R, C) are spread if each is like `p` (R, C)."""
    from torch.distributed.tensor import Shard

    return [Shard(to.dim + 1) if to.is_shard() else to for to in p.placements]


def adamw(groups: Sequence[dict[str, Any]], **common: Any) -> AdamW:
    """AdamW over these groups of weights. Those that are spread over processes have groups of their own, for the fused
    kernel takes no mixture."""
    kinds = [
        {**group, "params": some}
        for group in groups
        for spread in (False, True)
        if (some := [p for p in group["params"] if is_spread(p) == spread])
    ]
    optimizer = AdamW(kinds, **common)
    optimizer.numbered = [p for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    return optimizer


def numbered(optimizer: Optimizer) -> list[Tensor]:
    """An optimizer's weights, in the order in which a checkpoint numbers them, however they are spread."""
    own: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    return getattr(optimizer, "numbered", own)


@torch.no_grad()
def add_up(world: World, total: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Replace a loss, (), and the gradients that are not summed yet, by their sums over all rows."""
    if world.size == 1:
        return
    values = [total]
    for p in filter(is_alike, parameters):  # those that are spread have been summed
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad  # another process's rows may have needed it
        values.append(local(p.grad))
    world.all_reduce(values)
    if not world.split:  # all have computed the same, up to rounding, by which they would drift apart
        torch._foreach_div_(values, world.size)


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Shrink all gradients so that their norm is at most `limit`; returns what it was, ()."""
    given = [p for p in parameters if p.grad is not None]
    kinds = [[p for p in given if is_spread(p) == spread] for spread in (False, True)]
    norms = [nn.utils.get_total_norm([p.grad for p in some if p.grad is not None]) for some in kinds if some]
    norms = [whole(norm, norm) for norm in norms]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    for some in filter(None, kinds):
        nn.utils.clip_grads_with_norm_(some, limit, norm)
    return norm
