"""Attention in heads, and the keys and values that it remembers.

Vaswani et al. 2017, arXiv:1706.03762: scaled dot-product attention (section 3.2.1), heads (3.2.2). Henry et al. 2020,
arXiv:2010.04245: query-key normalisation (section 3), where the cosine of query and key is multiplied by a learned
number; here that number stays at the square root of a head's width.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._patterns import Pattern
from charlm.archs._positions import rotate
from charlm.archs._sparse import PatternMask

Mask = Tensor | PatternMask | None
"""Where queries may look: (..., T, S) True there, or what is added to energies, or by a pattern; None is everywhere."""


class KV(NamedTuple):
    """One layer's keys and values, as a value: extending it makes another."""

    keys: Tensor  # (B, H, P, D/H)
    values: Tensor  # (B, H, P, D/H)

    def extend(self, keys: Tensor, values: Tensor, pattern: Pattern | None = None) -> tuple[KV, Mask]:
        """Append T keys and values. The mask (T, P + T) is True where a query may look. None needs none: a single query
        sees all keys, and without a past attention is causal. A pattern is its own mask.
        """
        past, new = self.keys.size(2), keys.size(2)
        if past:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        if pattern is not None:
            return KV(keys, values), PatternMask(pattern)
        return KV(keys, values), causal_mask(new, past, keys.device) if past and new > 1 else None


class Slot(NamedTuple):
    """One layer of a cache: extended in place by one token, so that no address and no shape changes."""

    keys: Tensor  # (B, H, W, D/H), as far as `mask` says
    values: Tensor  # (B, H, W, D/H)
    position: Tensor  # (1,) of the next token, on the device
    mask: Tensor  # (1, W) True at all tokens up to that one
    bias: Tensor  # (1, W) the same as what is added to energies, 0 there

    def extend(self, keys: Tensor, values: Tensor, pattern: Pattern | None = None) -> tuple[KV, Tensor]:
        """keys and values (B, H, 1, D/H)"""
        self.keys.index_copy_(2, self.position, keys)
        self.values.index_copy_(2, self.position, values)
        if pattern is None:
            return KV(self.keys, self.values), self.bias
        seen = pattern.mask(self.position, torch.arange(self.mask.size(1), device=keys.device))  # (H or 1, 1, W)
        return KV(self.keys, self.values), self.mask & seen


class Cache:
    """The KV cache of whoever writes: keys and values of all layers, with room for a whole window."""

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor) -> None:
        """`shape` is (L, B, H, W, D/H); type and device are those of `like`."""
        self.keys, self.values = like.new_zeros(2, *shape)
        self.position = torch.zeros(1, dtype=torch.long, device=like.device)  # of the next token
        self.positions = torch.arange(shape[3], device=like.device)

    def load(self, layers: Iterable[KV]) -> None:
        """Hold what these do, and what is extended next stands behind it."""
        for keys, values, kv in zip(self.keys, self.values, layers, strict=True):
            size = kv.keys.size(2)
            keys[:, :, :size], values[:, :, :size] = kv
            self.position.fill_(size)

    def slots(self) -> list[Slot]:
        mask = (self.positions <= self.position)[None]
        bias = torch.zeros_like(mask, dtype=self.keys.dtype).masked_fill_(~mask, -math.inf)
        layers = zip(self.keys, self.values, strict=True)
        return [Slot(keys, values, self.position, mask, bias) for keys, values in layers]


class Attention(nn.Module):
    """Queries that look at keys and mix their values: all of one text (`project`), or queries of a text and keys of a
    source (`queries`, `keys_values`)."""

    def __init__(self, size: int, heads: int, *, bias: bool, dropout: float, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads, self.width, self.dropout, self.qk_norm = heads, size // heads, dropout, qk_norm
        self.qkv = nn.Linear(size, 3 * size, bias=bias)
        self.out = nn.Linear(size, size, bias=bias)

    def project(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, D/H) of x (B, T, D); `rotation` (T, 2, D/H) is RoPE's."""
        qk, v = torch.split(self.split(self.qkv(x)), [2, 1])
        qk = self.normed(qk)  # both at once: a GPU waits for launches, not for numbers
        q, k = (qk if rotation is None else rotate(qk, rotation)).unbind()
        return q, k, v[0]

    def queries(self, x: Tensor) -> Tensor:
        """Queries (B, H, T, D/H) of x (B, T, D), for a source."""
        (q,) = self.split(self.some_outputs(x, slice(self.qkv.in_features))).unbind()
        return self.normed(q)

    def keys_values(self, source: Tensor) -> KV:
        """Keys and values (B, H, S, D/H) of a source (B, S, D)."""
        k, v = self.split(self.some_outputs(source, slice(self.qkv.in_features, None))).unbind()
        return KV(self.normed(k), v)

    def normed(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:]) if self.qk_norm else x

    def some_outputs(self, x: Tensor, outputs: slice) -> Tensor:
        """Those of `qkv`; unless it is quantized, without computing the others."""
        if not isinstance(self.qkv, nn.Linear):
            return self.qkv(x)[..., outputs]
        return F.linear(x, self.qkv.weight[outputs], None if self.qkv.bias is None else self.qkv.bias[outputs])

    def split(self, x: Tensor) -> Tensor:
        """(B, T, N D) -> (N, B, H, T, D/H)"""
        sides = x.size(2) // (self.heads * self.width)
        x = x.view(*x.shape[:2], sides, self.heads, self.width)  # (B, T, N, H, D/H)
        return x.permute(2, 0, 3, 1, 4)

    def forward(self, q: Tensor, kv: KV, mask: Mask, causal: bool = False) -> Tensor:
        """What queries (B, H, T, D/H) get, (B, T, D): where `mask` (..., T, S) is True or, without one, from all keys
        or, if `causal`, from those up to their own place. Without a key to look at that is zeros, before `out`."""
        dropout = self.dropout if self.training else 0.0
        if isinstance(mask, PatternMask):
            y = mask.mix(q, *kv, dropout)
        else:
            y = F.scaled_dot_product_attention(q, *kv, mask, dropout, is_causal=causal)
        mixed: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return mixed

    def weights(self, q: Tensor, kv: KV, mask: Mask, causal: bool = False) -> Tensor:
        """The shares (B, H, T, S) by which `forward` mixes the values, which the fused product in it never shows; in
        fp32, and zeros without a key to look at."""
        energy = q @ kv.keys.mT / math.sqrt(q.size(-1))
        if isinstance(mask, PatternMask):
            mask = mask.dense(q, kv.keys)
        elif causal:
            mask = causal_mask(q.size(2), 0, q.device)
        if mask is None:
            return energy.softmax(-1, dtype=torch.float)
        return energy.masked_fill(~mask, torch.finfo(energy.dtype).min).softmax(-1, dtype=torch.float) * mask


def causal_mask(t: int, past: int, device: torch.device) -> Tensor:
    """(T, P + T) True where a token may look: at the past, at earlier tokens, at itself."""
    return torch.ones(t, past + t, dtype=torch.bool, device=device).tril(past)


def watch(attentions: Iterable[nn.Module], run: Callable[[], object]) -> Tensor:
    """(L, H, T, S) the weights in each of these, called once by `run`, on its only row; what other threads do with them
    meanwhile does not count."""
    layers: list[Tensor] = []
    own = threading.get_ident()

    def listen(attention: Any, given: tuple[Any, ...]) -> None:
        if threading.get_ident() == own:
            layers.append(attention.weights(*given)[0])  # (H, T, S)

    hooks = [attention.register_forward_pre_hook(listen) for attention in attentions]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(layers)
