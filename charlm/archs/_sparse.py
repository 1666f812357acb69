"""Attention by a pattern without computing what the pattern leaves out.

Whole sequences are cut into groups of queries, and each group gets the keys that its queries may see: the work grows
with the number of these keys, not with the square of the length. Two forms do that: on CUDA PyTorch's `flex_attention`
(Dong et al. 2024, arXiv:2412.05496) with a block mask of the same predicate; elsewhere, and with dropout, padding or
torch.compile, or where that does not work, keys that are gathered by their places. The dense mask is the reference of
both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from charlm.archs._patterns import Pattern
from charlm.archs._rules import Column

DENSE_BELOW = 512 * 512  # pairs of queries and keys; fewer are faster with a mask
SPARSE_UP_TO = 0.4  # share of them that groups may score and be faster than a mask
AHEAD = 64  # places whose keys are listed at once


class PatternMask(NamedTuple):
    """What an attention is given in the place of a mask: queries are the last places, keys all of them."""

    pattern: Pattern
    tokens: Tensor | None = None  # (B, 1, 1, S) True at keys that are no padding

    def dense(self, q: Tensor, k: Tensor) -> Tensor:
        """The mask (..., T, S) for queries (B, H, T, D/H) and keys (B, H, S, D/H)."""
        make = dense if torch.compiler.is_compiling() else kept_dense
        mask = make(self.pattern, k.size(2) - q.size(2), k.size(2), k.device)
        return mask if self.tokens is None else mask & self.tokens

    def mix(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, H, T, D/H) what the queries get of the values, in the fastest form."""
        pairs, wide = q.size(2) * k.size(2), self.pattern.readers
        if pairs < DENSE_BELOW:
            return F.scaled_dot_product_attention(q, k, v, self.dense(q, k), dropout)
        compiling = torch.compiler.is_compiling()  # which cannot see through a cache
        if (
            self.tokens is None
            and not dropout
            and not compiling
            and flex_works(self.pattern, v.device, v.dtype, v.size(3))
        ):
            return flex(q.to(v.dtype), k.to(v.dtype), v, self.pattern)  # autocast leaves queries and keys in fp32
        make = groups if compiling else kept_groups
        pieces = make(self.pattern, k.size(2) - q.size(2), k.size(2), k.device)
        if sum(part.work for part in pieces) > SPARSE_UP_TO * pairs:
            return F.scaled_dot_product_attention(q, k, v, self.dense(q, k), dropout)
        y = grouped(q, k, v, pieces, self.tokens, dropout)
        if not wide:
            return y
        all_seen = F.scaled_dot_product_attention(q[:, :, :wide], k, v, self.tokens, dropout)
        return torch.cat([all_seen, y[:, :, wide:]], 2)


def dense(pattern: Pattern, past: int, end: int, device: torch.device) -> Tensor:
    """(H or 1, T, S) the mask for queries at places `past` to `end` and keys before `end`."""
    places = torch.arange(end, device=device)
    return pattern.mask(places[past:], places)


class Groups(NamedTuple):
    """Some pairs of queries and keys, in N groups of G queries with K keys."""

    stride: int  # queries of a group stand so far apart; 1: they are neighbours
    front: int  # places before the first query that fill up its group
    keys: Tensor  # (H or 1, N, K) places
    mask: Tensor  # (H or 1, N, G, K) True where a query may look

    @property
    def work(self) -> int:
        """Pairs that are scored."""
        return self.mask[0].numel()

    def group(self, x: Tensor) -> Tensor:
        """(B, H, T, X) -> (B, H, N, G, X)"""
        n, size = self.mask.shape[1:3]
        x = F.pad(x, (0, 0, self.front, n * size - self.front - x.size(2)))
        if self.stride == 1:
            return x.reshape(*x.shape[:2], n, size, -1)
        return x.reshape(*x.shape[:2], size, n, -1).transpose(2, 3)

    def ungroup(self, x: Tensor, length: int) -> Tensor:
        """(B, H, N, G, X) -> (B, H, T, X)"""
        x = (x if self.stride == 1 else x.transpose(2, 3)).flatten(2, 3)
        return x[:, :, self.front : self.front + length]

    def gather(self, x: Tensor) -> Tensor:
        """Keys or values (B, H, S, D/H) -> (B, H, N, K, D/H)"""
        return x[:, torch.arange(x.size(1), device=x.device)[:, None, None], self.keys]

    def visible(self, tokens: Tensor | None) -> Tensor:
        """(B or 1, H or 1, N, G, K) the mask, and only keys that are `tokens`, (B, 1, 1, S) True where not padding."""
        return self.mask[None] if tokens is None else self.mask & tokens[:, 0, 0, self.keys].unsqueeze(3)


def groups(pattern: Pattern, past: int, end: int, device: torch.device) -> list[Groups]:
    """All pairs of queries at places `past` to `end` and keys before `end`, each pair once."""
    result, size = [], pattern.size
    start = past - past % size
    queries = torch.arange(start, start + -(-(end - start) // size) * size, device=device).view(-1, size)  # (N, G)
    for column in (False, True):
        rules = tuple(rule for rule in pattern.rules if isinstance(rule, Column) == column)
        if rules:
            keys, mask = pattern.candidates(queries.T if column else queries, rules, end)
            result.append(Groups(size if column else 1, past - start, keys, mask))
    return result


kept_groups = lru_cache(maxsize=32)(torch.inference_mode(False)(groups))  # those of a training stay
kept_dense = lru_cache(maxsize=32)(torch.inference_mode(False)(dense))


def grouped(q: Tensor, k: Tensor, v: Tensor, pieces: Sequence[Groups], tokens: Tensor | None, dropout: float) -> Tensor:
    """(B, H, T, D/H) what the queries get, by the groups of a pattern."""
    length, masks = q.size(2), [part.visible(tokens) for part in pieces]
    if len(pieces) == 1:  # all energies of a query stand together: the fused product keeps none of them
        (part,), (mask,) = pieces, masks
        alike = mask.shape[:2] == (1, 1)  # in all rows and heads
        at = (0, 1) if alike else (1, 2)  # heads stand with the rows; or with the groups, for masks of their own
        a, b, c = (t.flatten(*at) for t in (part.group(q), part.gather(k), part.gather(v)))  # (…, G or K, D/H)
        mask = mask[0] if alike else mask.expand(-1, q.size(1), -1, -1, -1).flatten(1, 2)  # (1, N or H N, G, K)
        y = F.scaled_dot_product_attention(a, b, c, mask, dropout)
        return part.ungroup(y.view(*q.shape[:2], -1, *y.shape[2:]), length)
    q = q / math.sqrt(q.size(-1))
    energies = []
    for part, mask in zip(pieces, masks, strict=True):
        energy = part.group(q) @ part.gather(k).mT  # (B, H, N, G, K)
        energies.append(part.ungroup(energy.masked_fill(~mask, torch.finfo(energy.dtype).min), length))
    shares = F.dropout(torch.cat(energies, -1).softmax(-1), dropout)  # (B, H, T, K of all)
    each = torch.split(shares, [e.size(-1) for e in energies], -1)
    mixed = [p.ungroup(p.group(w) @ p.gather(v), length) for p, w in zip(pieces, each, strict=True)]
    return torch.stack(mixed).sum(0)


Keys = slice | NDArray[np.intp]
"""Keys of one query: neighbours, or (K,), or (H, K) where heads differ."""


def keys_at(pattern: Pattern, place: int) -> Keys:
    """Where the query at this place looks, in a causal pattern."""
    return key_lists(pattern, place - place % AHEAD)[place % AHEAD]


@lru_cache(maxsize=256)
def key_lists(pattern: Pattern, start: int) -> list[Keys]:
    """`keys_at` of the AHEAD places from `start` on, for one at a time would cost more than its attention."""
    queries = torch.arange(start, start + AHEAD)[:, None]
    keys, masks = (t.numpy() for t in pattern.candidates(queries, pattern.rules, start + AHEAD))
    result: list[Keys] = []
    for row, mask in zip(keys.swapaxes(0, 1), masks[:, :, 0].swapaxes(0, 1), strict=True):  # (H or 1, K)
        seen = row[mask].reshape(len(row), -1)  # every head sees as many
        first, last = seen[0, 0], seen[0, -1]
        if len(seen) > 1:
            result.append(seen)
        else:
            result.append(slice(first, last + 1) if last - first + 1 == seen.size else seen[0])
    return result


@lru_cache
def compiled(function: Callable[..., Any], pattern: Pattern) -> Any:  # noqa: ARG001
    """For each pattern anew: of one function torch.compile keeps few forms."""
    return torch.compile(function)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def block_mask(pattern: Pattern, past: int, end: int, device: torch.device) -> Any:
    """The pattern as `flex_attention` wants it: which blocks have any pair, and the predicate inside these."""

    def allows(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001
        return pattern.allows(head, q + past, k)

    cuda = device.type == "cuda"
    make = compiled(create_block_mask, pattern) if cuda else create_block_mask  # not compiled it holds all pairs
    return make(allows, None, pattern.heads, end - past, end, device)


def flex(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
    """(B, H, T, D/H) what the queries get, by `flex_attention`."""
    mask = block_mask(pattern, k.size(2) - q.size(2), k.size(2), k.device)
    attend = compiled(flex_attention, pattern) if k.device.type == "cuda" else flex_attention
    y: Tensor = attend(q, k, v, block_mask=mask)
    return y


@lru_cache
def flex_works(pattern: Pattern, device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether `flex_attention` can be compiled for a pattern and heads of this width, tried forwards and backwards."""
    if device.type != "cuda":  # a CPU has no gradients of it
        return False
    try:
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.zeros(1, pattern.heads, 256, width, device=device, dtype=dtype, requires_grad=True)
            torch.autograd.backward(flex(x, x, x, pattern).sum())
    except Exception:  # every back end raises its own kind
        return False
    return True
