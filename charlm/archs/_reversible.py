"""A residual stream that needs no memory for its layers: the backward pass computes their inputs from their outputs.

Gomez et al. 2017, arXiv:1707.04585, section 3: with two halves of a stream, y1 = x1 + F(x2) and y2 = x2 + G(y1), so
that x2 = y2 - G(y1) and x1 = y1 - F(x2). Both are one step, (a, b) -> (b, a + f(b)), with F and G in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from charlm.sampling import noise

Branch = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""f: (B, T, D) -> (B, T, D) and what it decided on the way, a tensor of whole numbers or None. Given that again, it
decides the same, although its input may differ in the last bit."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def reversible(x: Tensor, branches: Sequence[nn.Module], dropout: float) -> tuple[Tensor, Tensor]:
    """Both halves, (B, T, D) each, after all branches; both begin as x (B, T, D).

    Each branch is a `Branch`, and `dropout` is the share of what it says that is dropped. What is kept for the backward
    pass is the end of the stream, and what the branches decided.
    """
    seed = torch.randint(2**62, (), device=x.device) if dropout and not x.is_meta else torch.zeros(())
    weights = [p for branch in branches for p in trainable(branch)]
    ends: tuple[Tensor, Tensor] = _Reversible.apply(x, branches, dropout, seed, *weights)  # type: ignore[no-untyped-call]
    return ends


def trainable(branch: nn.Module) -> list[Tensor]:
    return [p for p in branch.parameters() if p.requires_grad]


def dropped(x: Tensor, share: float, seed: Tensor) -> Tensor:
    """Dropout that is the same whenever the seed () is: it is computed twice."""
    if not share or x.is_meta:  # of which only sizes are wanted
        return x
    places = torch.arange(x.numel(), device=x.device).view(x.shape)
    bits = noise.branch(seed, places)  # int64, all values alike
    return x * (bits >= round(share * 2**64) - 2**63) / (1 - share)


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branches: Sequence[Any],
        dropout: float,
        seed: Tensor,
        *weights: Tensor,  # noqa: ARG004  # so that autograd asks for their gradients
    ) -> tuple[Tensor, Tensor]:
        a, b, decisions = x, x, []
        for number, branch in enumerate(branches):
            y, decided = branch(b, None)
            a, b = b, a + dropped(y, dropout, seed + number)
            decisions.append(decided)
        ctx.branches, ctx.dropout = branches, dropout
        kind = "cpu" if x.is_meta else x.device.type  # the meta device has no autocast
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), False
        ctx.save_for_backward(a, b, seed, *decisions)
        return a, b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_a: Tensor, grad_b: Tensor) -> tuple[Tensor | None, ...]:
        a, b, seed, *decisions = ctx.saved_tensors
        grads: list[Tensor] = []  # of the weights, in the order of `branches`
        for number, branch in reversed(list(enumerate(ctx.branches))):
            with torch.enable_grad(), torch.autocast(*ctx.autocast):
                given = a.detach().requires_grad_()
                y, _ = branch(given, decisions[number])
                y = dropped(y, ctx.dropout, seed + number).to(b.dtype)
            grad, *of_weights = torch.autograd.grad(y, [given, *trainable(branch)], grad_b)
            grads[:0] = of_weights
            a, b = b - y.detach(), a
            grad_a, grad_b = grad_b, grad_a + grad
        return grad_a + grad_b, None, None, None, *grads
