"""Small weights become zero: pruning by magnitude (Han et al. 2015, arXiv:1506.02626, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are pruned, by name: matrices, without embeddings, each once where it is shared."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return {name: p for name, p in model.named_parameters() if p.dim() == 2 and id(p) not in embeddings}


def pruned(weight: Tensor, share: float) -> Tensor:
    """A copy of a matrix in which the `share` of its weights that is smallest in magnitude is zero."""
    count = round(share * weight.numel())
    smallest = weight.abs().flatten().argsort(stable=True)[:count]
    return weight.flatten().index_fill(0, smallest, 0.0).view_as(weight)


def zeros(model: nn.Module) -> int:
    """How many weights of the matrices are zero."""
    return sum(int((p == 0).sum()) for p in matrices(model).values())


@torch.no_grad()
def prune(model: nn.Module, share: float) -> None:
    """Prune each matrix by itself, in place."""
    for p in matrices(model).values():
        p.copy_(pruned(p, share))
