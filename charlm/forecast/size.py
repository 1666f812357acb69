"""How large a training is: parameters by part, memory, and what its batches hold. Nothing is allocated for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.config import PAD, DataSpec
from charlm.model import Network, map_state, parameter_count
from charlm.objectives._base import Objective
from charlm.plan import Plan
from charlm.training.loop import Batches
from charlm.work import multiply_adds

SEEN = 32  # batches that are looked at
PASSES = 3  # a step is a forward pass, and a backward one of twice its work (of a reformer thrice: it computes again)

Rows = tuple[NDArray[Any], ...]


class Memory(NamedTuple):
    """Bytes that a training takes at once."""

    weights: int  # in fp32, with buffers
    gradients: int
    optimizer: int
    average: int  # of --ema
    activations: int  # of one batch, kept for the backward pass: in fp32, without fused kernels, which keep less

    @property
    def lasting(self) -> int:
        """What does not depend on the batch."""
        return self.total - self.activations

    @property
    def total(self) -> int:
        return sum(self)


class Size(NamedTuple):
    vocabulary: int
    parameters: int
    parts: dict[str, int]  # parameters, as `parts` counts them
    memory: Memory
    multiply_adds: int  # per token, forward
    flops_per_token: float  # of training, for a token that counts as read: sources and padding are computed too
    tokens_per_step: float  # that count as read, of pairs the targets'; on average

    @classmethod
    def of(cls, plan: Plan, batches: Batches, spec: DataSpec) -> Size:
        outline = plan.outline(spec)
        work = multiply_adds(outline)
        seen: list[Rows] = [batches.batch(number)[0] for number in range(SEEN)]
        computed = [sum(side.size for side in rows) - len(rows[-1]) for rows in seen]  # the last column is only guessed
        tokens = sum(int((rows[-1][:, 1:] != PAD).sum()) for rows in seen)
        return cls(
            vocabulary=spec.vocab_size,
            parameters=parameter_count(outline),
            parts=parts(outline),
            memory=memory(plan, outline, seen[computed.index(max(computed))]),
            multiply_adds=work,
            flops_per_token=2 * PASSES * work * sum(computed) / tokens,
            tokens_per_step=plan.train.accumulate * tokens / len(seen),
        )


def parts(outline: Network) -> dict[str, int]:
    """Trainable numbers by part of the network; 0 where all are shared with an earlier one."""
    counted: set[int] = set()

    def count(weights: Iterable[nn.Parameter]) -> int:
        new = {id(p): p.numel() for p in weights if p.requires_grad and id(p) not in counted}
        counted.update(new)
        return sum(new.values())

    counts = {name: count(child.parameters()) for name, child in outline.named_children() if [*child.parameters()]}
    own = count(outline.parameters())
    return counts | ({"its own": own} if own else {})


def memory(plan: Plan, outline: Network, rows: Rows) -> Memory:
    """What training takes on batches like `rows`. `outline` is on the meta device."""
    weights = size_of([*outline.parameters(), *outline.buffers()])
    return Memory(
        weights=weights,
        gradients=4 * parameter_count(outline),
        optimizer=optimizer_bytes(outline, plan.train.optimizer),
        average=weights if plan.train.ema else 0,
        activations=saved_bytes(outline, plan.objective, rows),
    )


def optimizer_bytes(outline: Network, optimizer: str) -> int:
    """Two moments of AdamW for each parameter, one of Muon for those that it trains (`training/optim.py`)."""
    embeddings = {id(m.weight) for m in outline.modules() if isinstance(m, nn.Embedding)}
    hidden = [
        p
        for name, p in outline.named_parameters()
        if p.dim() == 2 and id(p) not in embeddings and not name.startswith("head.")
    ]
    both = 8 * parameter_count(outline)
    return both - size_of(hidden) if optimizer == "muon" else both


def saved_bytes(outline: Network, objective: Objective, rows: Rows) -> int:
    """What PyTorch keeps of a forward pass over `rows` for the backward pass, beside the weights."""
    saved: dict[int, Tensor] = {}  # by storage: views of one share it

    def keep(t: Tensor) -> Tensor:
        saved[t.untyped_storage()._cdata] = t
        return t

    outline.train()
    batch = objective.batch(tuple(map(torch.from_numpy, rows)), outline.spec, torch.Generator())
    batch = map_state(lambda t: t.to("meta"), batch)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), torch.device("meta"):
        objective.loss(outline, batch, objective.start(outline, len(batch.tokens)))
    for t in (*outline.parameters(), *outline.buffers()):
        saved.pop(t.untyped_storage()._cdata, None)
    return sum(t.untyped_storage().nbytes() for t in saved.values())


def size_of(tensors: Sequence[Tensor]) -> int:
    """Bytes."""
    return sum(t.numel() * t.element_size() for t in tensors)
