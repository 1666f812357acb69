"""Positions: how a model with attention knows where a token stands. A kind of them is a class.

Vaswani et al. 2017, arXiv:1706.03762: sinusoids (section 3.5). Su et al. 2021, arXiv:2104.09864: RoPE, rotary
positions (section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Places = slice | Tensor
"""Where tokens stand in their window: a slice, or one place (1,) that only the device knows: no shape depends on it."""


class Positions(nn.Module):
    """None at all: a model has the order of its tokens from the causal mask alone."""

    def add(self, x: Tensor, places: Places) -> Tensor:  # noqa: ARG002
        """Embedded tokens (B, T, D) with what says where they stand."""
        return x

    def rotation(self, places: Places) -> Tensor | None:  # noqa: ARG002
        """(T, 2, D/H) what turns queries and keys at these places, as `rotate` wants it; None where nothing does."""
        return None


class Learned(Positions):
    def __init__(self, length: int, size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(length, size)
        nn.init.normal_(self.embed.weight, std=0.02)

    def add(self, x: Tensor, places: Places) -> Tensor:
        return x + self.embed.weight[places]


class Sinusoidal(Positions):
    table: Tensor  # (length, D)

    def __init__(self, length: int, size: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(length, size), persistent=False)

    def add(self, x: Tensor, places: Places) -> Tensor:
        return x + self.table[places]


class Rotary(Positions):
    table: Tensor  # (length, 2, D/H) cosines and sines, of both halves of a head

    def __init__(self, length: int, size: int) -> None:
        """`size` is that of a head."""
        super().__init__()
        angles = angle_table(length, size)
        cosines, sines = angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], 1)
        self.register_buffer("table", torch.stack([cosines, sines], 1), persistent=False)

    def rotation(self, places: Places) -> Tensor:
        return self.table[places]


def positions(kind: str, length: int, size: int, head: int) -> Positions:
    """Those of this name, for so many places, embeddings of `size` numbers, and heads of `head`."""
    if kind == "rotary":
        return Rotary(length, head)
    kinds = {"learned": Learned, "sinusoidal": Sinusoidal}
    return kinds[kind](length, size) if kind in kinds else Positions()


def sinusoids(length: int, size: int) -> Tensor:
    """(length, size) sines in the even columns, cosines in the odd ones (Vaswani et al., section 3.5)."""
    angles = angle_table(length, size + size % 2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :size]


def angle_table(length: int, size: int) -> Tensor:
    """(length, size / 2) position times frequency, from 1 down to 1/10000."""
    if torch.get_default_device().type == "meta":  # only sizes are wanted
        return torch.empty(length, size // 2)
    frequency = 10_000.0 ** (-torch.arange(0, size, 2) / size)
    return torch.arange(length)[:, None] * frequency


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """x (..., T, D/H), each pair (first half, second half) turned by its position's angle; rotation (T, 2, D/H)."""
    cos, sin = rotation.unbind(1)  # (T, D/H) each, sines with the sign that they have in their half
    a, b = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat([b, a], -1), sin)
