"""States: trees of tensors, batch first, which only the architecture that made one looks inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

State = Any  # a tensor, or a tuple of states


def map_state(change: Callable[..., Tensor], state: State, *others: State) -> State:
    """The same tree with `change` applied to each tensor, together with those in the same place of other trees."""
    if isinstance(state, Tensor):
        return change(state, *others)
    if isinstance(state, tuple):
        parts = [map_state(change, *parts) for parts in zip(state, *others, strict=True)]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def leaves(state: State) -> list[Tensor]:
    """The tree's tensors, in order."""
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state or () for leaf in leaves(part)]


def detach(state: State) -> State:
    """The same values, cut from the autograd graph."""
    return map_state(Tensor.detach, state)


def repeated(state: State, rows: int) -> State:
    """A state of one row, for so many rows."""
    return map_state(lambda t: t.repeat_interleave(rows, 0), state)
