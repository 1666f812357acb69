"""Relative attention: a query asks what a key holds and how far back it stands, and nothing of where either stands.

Dai et al. 2019, arXiv:1901.02860, section 3.3: for a query q and a key k at a distance of d tokens

    score = ((q + u) k + (q + v) W sinusoids(d)) / sqrt(D/H)

with u and v learned per head. Scores by distance, furthest first, are one row of numbers per query, and a band when
they stand under their keys (`band`, the shift of appendix B), so that no query looks further back, or ahead. A text
that is read both ways has scores of what is ahead, too, at distances below zero (`both_ways`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import KV
from charlm.archs._blocks import Block, BlockConfig
from charlm.archs._positions import angle_table


class RelativeAttention(nn.Module):
    """No projection has a bias, as in the authors' code; u and v are `content` and `place`, of each layer its own."""

    def __init__(self, size: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout, self.scale = heads, dropout, (size // heads) ** -0.5
        self.query = nn.Linear(size, size, bias=False)
        self.key_value = nn.Linear(size, 2 * size, bias=False)
        self.distance = nn.Linear(size, size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.content = nn.Parameter(torch.zeros(heads, 1, size // heads))
        self.place = nn.Parameter(torch.zeros(heads, 1, size // heads))

    def split(self, x: Tensor) -> Tensor:
        """(..., T, D) -> (..., H, T, D/H)"""
        return x.view(*x.shape[:-1], self.heads, x.size(-1) // self.heads).transpose(-3, -2)

    def queries(self, x: Tensor) -> Tensor:
        """(B, H, T, D/H) of x (B, T, D)."""
        return self.split(self.query(x))

    def keys_values(self, x: Tensor) -> KV:
        """(B, H, S, D/H) each, of x (B, S, D)."""
        keys, values = self.key_value(x).chunk(2, -1)
        return KV(self.split(keys), self.split(values))

    def distances(self, table: Tensor) -> Tensor:
        """What the distances (N, D) are to each head: (H, N, D/H)."""
        return self.split(self.distance(table))

    def by_distance(self, q: Tensor, distances: Tensor) -> Tensor:
        """The scores (B, H, T, N) that queries (B, H, T, D/H) give to N distances, whatever stands there."""
        scores: Tensor = ((q + self.place) * self.scale) @ distances.mT
        return scores

    def forward(self, q: Tensor, kv: KV, places: Tensor) -> Tensor:
        """What queries (B, H, T, D/H) get, (B, T, D); `places` (B, H, T, S) are the scores of where the keys stand,
        -inf where a query may not look."""
        shares = F.dropout(self.weights(q, kv, places), self.dropout, self.training)
        mixed: Tensor = self.out((shares @ kv.values).transpose(1, 2).flatten(2))
        return mixed

    def weights(self, q: Tensor, kv: KV, places: Tensor) -> Tensor:
        """The shares (B, H, T, S) by which `forward` mixes the values."""
        energy: Tensor = ((q + self.content) * self.scale) @ kv.keys.mT + places
        return energy.softmax(-1)


class RelativeBlock(Block):
    """A block whose first sublayer is relative attention, over a memory and the tokens after it."""

    attention: RelativeAttention

    def __init__(self, c: BlockConfig) -> None:
        super().__init__(c, attention=RelativeAttention(c.hidden_size, c.head_count, dropout=c.dropout))

    def forward(self, seen: Tensor, new: int, table: Tensor, unknown: Tensor) -> Tensor:  # type: ignore[override]
        """(B, T, D) for the `new` newest of what this layer has `seen` (B, P + T, D).

        `table` (N, D) holds the distances that are looked at, furthest first, and `unknown` (B, 1, 1, P + T) is True
        before the text begins.
        """
        width = min(seen.size(1), len(table) - 1 + new)
        x, normed = seen[:, -new:], self.normed(seen[:, -width:], self.norm1)
        q = self.attention.queries(normed[:, -new:])
        places = band(self.attention.by_distance(q, self.attention.distances(table)))[..., -width:]
        places = places.masked_fill(unknown[..., -width:], -math.inf)  # (B, H, T, S)
        return self.feed(self.residual(x, self.attention(q, self.attention.keys_values(normed), places), self.norm1))


def band(scores: Tensor) -> Tensor:
    """Scores (..., T, N) by distance, furthest first, under their keys: (..., T, N - 1 + T), -inf where no score is.

    Row t begins t places further to the right: rows are padded and read again as if they were one number shorter.
    """
    t, n = scores.shape[-2:]
    rows = F.pad(scores, (0, t), value=-math.inf).flatten(-2)
    return rows[..., : t * (n - 1 + t)].view(*scores.shape[:-2], t, n - 1 + t)


def both_ways(scores: Tensor, places: Tensor | None = None) -> Tensor:
    """Scores (B, H, T, 2 S) by distance, from S down to 1 - S, under their keys: (B, H, T, S).

    Queries stand at `places` (B, T) or, by default, at all S places one after the other.
    """
    size = scores.size(-1) // 2
    if places is None:  # row t begins t places further to the left
        return scores.flatten(-2)[..., size:].view(*scores.shape[:-1], 2 * size - 1)[..., :size]
    index = size - places[..., None] + torch.arange(size, device=scores.device)  # (B, T, S)
    return scores.gather(-1, index[:, None].expand(-1, scores.size(1), -1, -1))


def distance_table(reach: int, size: int, clamp: int) -> Tensor:
    """(reach + 1, size) sinusoids of the distances from `reach` down to 0, those beyond `clamp` as `clamp`.

    Sines, then cosines: not side by side as in the positions of Vaswani et al.
    """
    angles = angle_table(min(reach, clamp) + 1, size + size % 2)
    distance = torch.arange(reach, -1, -1).clamp(max=clamp)
    return torch.cat([angles.sin(), angles.cos()], -1)[distance, :size]


def both_ways_table(length: int, size: int) -> Tensor:
    """(2 * length, size) the same sinusoids of the distances from `length` down to 1 - `length`, below 0 ahead."""
    angles = angle_table(length + 1, size + size % 2)
    angles = torch.cat([angles.flip(0), -angles[1:length]])
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :size]
