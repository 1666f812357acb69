"""Rules of attention patterns: sets of keys that a query may look at. `_patterns.py` makes patterns of them and names
their papers.

A rule is a predicate of head, place of the query and place of the key, on tensors that broadcast, and a list of
candidates for some queries, so that only these need be looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule(ABC):
    """Some of the keys that a query may look at."""

    causal: bool

    @abstractmethod
    def allows(self, head: Any, q: Any, k: Any) -> Tensor:
        """Whether a head looks from place q at place k: integers that broadcast. Causality is the pattern's."""

    @abstractmethod
    def keys(self, first: Tensor, size: int, end: int) -> Tensor:
        """(N, K) or (H, N, K) places: all below `end` that any of the `size` queries from `first` (N,) on may see, each
        once, and perhaps others, even negative ones. `first` is a multiple of `size`, which is 1 or the pattern's."""


@dataclass(frozen=True)
class Near(Rule):
    """Places at a distance below `reach`."""

    reach: int

    def allows(self, head: Any, q: Any, k: Any) -> Tensor:  # noqa: ARG002
        near: Tensor = (q - k < self.reach) & (k - q < self.reach)
        return near

    def keys(self, first: Tensor, size: int, end: int) -> Tensor:  # noqa: ARG002
        last = size if self.causal else size + self.reach - 1
        return first[:, None] + torch.arange(1 - self.reach, last, device=first.device)


@dataclass(frozen=True)
class Column(Rule):
    """Places at a distance that is a multiple of `stride`."""

    stride: int

    def allows(self, head: Any, q: Any, k: Any) -> Tensor:  # noqa: ARG002
        same: Tensor = q % self.stride == k % self.stride
        return same

    def keys(self, first: Tensor, size: int, end: int) -> Tensor:  # noqa: ARG002
        return first[:, None] % self.stride + torch.arange(0, end, self.stride, device=first.device)


@dataclass(frozen=True)
class Blocks(Rule):
    """The query's own block of `size` places, and `reach` blocks on each side."""

    size: int
    reach: int = 0

    def allows(self, head: Any, q: Any, k: Any) -> Tensor:
        return Near(self.causal, self.reach + 1).allows(head, q // self.size, k // self.size)

    def keys(self, first: Tensor, size: int, end: int) -> Tensor:  # noqa: ARG002
        last = (1 if self.causal else self.reach + 1) * self.size
        block = first[:, None] // self.size * self.size
        return block + torch.arange(-self.reach * self.size, last, device=first.device)


@dataclass(frozen=True)
class Summary(Rule):
    """In every block of `size` places `columns` of them, counted from its end; another set for each of `sets` heads."""

    size: int
    heads: int

    @property
    def columns(self) -> int:
        return max(1, min(4, self.size // 4))

    @property
    def sets(self) -> int:
        return min(4, self.size // self.columns)

    def allows(self, head: Any, q: Any, k: Any) -> Tensor:  # noqa: ARG002
        chosen: Tensor = (self.size - 1 - k % self.size) // self.columns == head % self.sets
        return chosen

    def keys(self, first: Tensor, size: int, end: int) -> Tensor:  # noqa: ARG002
        head, column = (torch.arange(n, device=first.device) for n in (self.heads, self.columns))
        inside = self.size - 1 - (head % self.sets)[:, None] * self.columns - column  # (H, C)
        blocks = torch.arange(0, end, self.size, device=first.device)
        return (blocks[:, None] + inside[:, None]).flatten(1)[:, None].expand(-1, len(first), -1)


@dataclass(frozen=True)
class First(Rule):
    """The window's first places: all see them, and they see all."""

    count: int

    def allows(self, head: Any, q: Any, k: Any) -> Tensor:  # noqa: ARG002
        chosen: Tensor = (k < self.count) | (q < self.count)
        return chosen

    def keys(self, first: Tensor, size: int, end: int) -> Tensor:  # noqa: ARG002
        """Those that all see; `Pattern.readers` see all."""
        return torch.arange(self.count, device=first.device).expand(len(first), -1)


@dataclass(frozen=True)
class Drawn(Rule):
    """`count` blocks of `size` places, drawn for each block among those that are neither the first nor beside it."""

    size: int
    count: int
    layer: int
    blocks: int  # in a window
    numbers: tuple[list[int], ...] = field(init=False, compare=False, default=())  # of all blocks, for each part

    def __post_init__(self) -> None:
        places = torch.arange(self.blocks, device="cpu")
        object.__setattr__(self, "numbers", tuple(self.chosen(places, part).tolist() for part in range(self.count)))

    def chosen(self, block: Tensor, part: int) -> Tensor:
        """The number of the block that each of these blocks sees of this part of the candidates; -1 for none."""
        if torch.compiler.is_compiling():  # torch.compile cannot translate the hash
            return torch.tensor(self.numbers[part], device=block.device)[block.clamp(max=self.blocks - 1)]
        block = block.long()
        aside = (block - 1).clamp(min=1)  # from here on the blocks beside it
        behind = (block + 2).clamp(max=self.blocks)
        candidates = aside - 1 if self.causal else aside - 1 + self.blocks - behind
        low, high = candidates * part // self.count, candidates * (part + 1) // self.count
        number = 1 + low + hashed(hashed(hashed(block) + part) + self.layer) % (high - low).clamp(min=1)
        number = torch.where(number < aside, number, number + behind - aside)
        return torch.where(high > low, number, -1)

    def allows(self, head: Any, q: Any, k: Any) -> Tensor:  # noqa: ARG002
        parts = range(self.count)  # no dimension of a tensor, which flex_attention could not compile
        seen: Tensor = reduce(or_, (self.chosen(q // self.size, part) == k // self.size for part in parts))
        return seen

    def keys(self, first: Tensor, size: int, end: int) -> Tensor:  # noqa: ARG002
        blocks = torch.stack([self.chosen(first // self.size, part) for part in range(self.count)], -1)
        return (blocks[..., None] * self.size + torch.arange(self.size, device=first.device)).flatten(1)


def hashed(x: Tensor) -> Tensor:
    """A hash of integers below 2 ** 32, to such integers: one number for all devices and versions."""
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return x ^ (x >> 16)
