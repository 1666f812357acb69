"""Writing with relative attention: one token at a time, on keys and values that are kept.

On a GPU a step is a recorded graph, on tensors that keep their place and their shape; few rows on a CPU are computed in
NumPy. `tests/test_archs.py` holds each to `features`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm.archs._attention import KV
from charlm.archs._graph import FixedStepper
from charlm.archs._numpy import FEW, on_cpu
from charlm.archs._numpy_layers import Array, Linear, Norm, array
from charlm.archs._relative import RelativeBlock
from charlm.model import Stepper


def relative_stepper(model: Any, rows: int) -> Stepper:
    """The faster one for a model of `RelativeBlock`s."""
    return NumpyStepper(model, rows) if rows <= FEW and on_cpu(model) else RingStepper(model, rows)


def past(model: Any, block: RelativeBlock, seen: Tensor) -> KV:
    """Keys and values of what a layer has seen (B, P, D), as far back as the next token looks."""
    newest = seen[:, max(0, seen.size(1) - model.reach) :]
    return block.attention.keys_values(block.normed(newest, block.norm1))


class RingStepper(FixedStepper):
    """Keys and values stand in a ring: those of a new token replace the oldest ones."""

    @torch.inference_mode()
    def __init__(self, model: Any, rows: int) -> None:
        super().__init__(model, rows)
        weight, size, heads = model.embed.weight, model.reach + 1, model.config.block.head_count
        shape = len(model.blocks), rows, heads, size, model.config.hidden_size // heads
        self.keys, self.values = weight.new_zeros(2, *shape)  # (L, B, H, N, D/H) each
        self.distances = [block.attention.distances(model.table[-size:].flip(0)) for block in model.blocks]
        self.places = torch.arange(size, device=self.device)
        self.at = torch.zeros(1, dtype=torch.long, device=self.device)  # the place of the next token
        self.known = weight.new_zeros(rows, 1, 1, 1)  # tokens before the next one

    def compute(self, token: Tensor) -> Tensor:
        x = self.model.embed(token[:, None])  # (B, 1, D)
        back = (self.at - self.places) % len(self.places)  # (N,) how far back each place is
        unknown = back > self.known  # (B, 1, 1, N)
        for block, keys, values, distances in zip(
            self.model.blocks, self.keys, self.values, self.distances, strict=True
        ):
            attention, normed = block.attention, block.normed(x, block.norm1)
            q, new = attention.queries(normed), attention.keys_values(normed)
            keys.index_copy_(2, self.at, new.keys)
            values.index_copy_(2, self.at, new.values)
            places = attention.by_distance(q, distances).index_select(-1, back)  # (B, H, 1, N)
            y = attention(q, KV(keys, values), places.masked_fill(unknown, -math.inf))
            x = block.feed(block.residual(x, y, block.norm1))
        self.at.add_(1).remainder_(len(self.places))
        self.known += 1
        logits: Tensor = self.model.head(self.model.norm(x[:, 0]))
        return logits

    @torch.inference_mode()
    def begin(self, state: Any) -> None:
        for block, keys, values, seen in zip(self.model.blocks, self.keys, self.values, state.layers, strict=True):
            kv = past(self.model, block, seen)
            size = kv.keys.size(2)
            keys[:, :, :size], values[:, :, :size] = kv
            self.at.fill_(size)
        self.known.copy_(state.known.view(-1, 1, 1, 1))


class NumpyStepper:
    """There is room for twice as many keys and values as are looked at: when it is full, the newer half moves to the
    front."""

    @torch.inference_mode()
    def __init__(self, model: Any, rows: int) -> None:
        self.model, self.size = model, model.reach + 1  # of which a token looks at `size`
        self.heads, self.pre = model.config.block.head_count, model.config.norm_place == "pre"
        self.width = model.config.hidden_size // self.heads
        self.keys, self.values = np.zeros(
            (2, len(model.blocks), rows, self.heads, 2 * self.size, self.width), np.float32
        )
        self.hidden = np.zeros((rows, 1, 2 * self.size), np.float32)  # -inf before the text begins
        self.at = 0  # the place of the next token
        self.embedding = array(model.embed.weight)
        table = model.table[-self.size :]
        self.layers = [
            (
                Norm(block.norm1),
                Linear(block.attention.query),
                Linear(block.attention.key_value),
                np.concatenate([array(block.attention.content), array(block.attention.place)], 1),  # (H, 2, D/H)
                array(block.attention.distances(table)),  # (H, N, D/H) furthest first
                Linear(block.attention.out),
                Norm(block.norm3),
                Linear(block.feed_forward.up),
                Linear(block.feed_forward.out),
            )
            for block in model.blocks
        ]
        self.norm = Norm(model.norm) if self.pre else None
        self.head = Linear(model.head)

    @torch.inference_mode()
    def begin(self, state: Any) -> None:
        for block, keys, values, seen in zip(self.model.blocks, self.keys, self.values, state.layers, strict=True):
            kv = past(self.model, block, seen)
            self.at = kv.keys.size(2)
            keys[:, :, : self.at], values[:, :, : self.at] = map(array, kv)
        unknown = np.arange(self.at, 0, -1) > array(state.known)[:, None]
        self.hidden[:] = 0
        self.hidden[:, 0, : self.at][unknown] = -np.inf

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        if self.at == 2 * self.size:
            for kept in (self.keys, self.values, self.hidden[..., None]):
                kept[..., : self.size, :] = kept[..., self.size :, :]
            self.at = self.size
        x = self.embedding[token.numpy()]  # (B, D)
        for layer, (norm1, query, key_value, biases, distances, out, norm2, up, down) in enumerate(self.layers):
            y = norm1(x) if self.pre else x
            y = out(self.attend(layer, query(y), key_value(y), biases, distances))
            x = x + y if self.pre else norm1(x + y)
            y = down(np.maximum(up(norm2(x) if self.pre else x), 0))
            x = x + y if self.pre else norm2(x + y)
        self.at += 1
        return torch.from_numpy(self.head(self.norm(x) if self.norm else x))

    def attend(self, layer: int, q: Array, kv: Array, biases: Array, distances: Array) -> Array:
        """q (B, D) and kv (B, 2D) of the next token -> (B, D)."""
        rows = len(q)
        seen = slice(max(0, self.at + 1 - self.size), self.at + 1)
        new = np.ascontiguousarray(kv).reshape(rows, 2, self.heads, self.width)
        self.keys[layer, :, :, self.at], self.values[layer, :, :, self.at] = new[:, 0], new[:, 1]
        asked = np.ascontiguousarray(q).reshape(rows, self.heads, 1, self.width) + biases  # (B, H, 2, D/H)
        asked *= self.width**-0.5
        scores = np.matmul(self.keys[layer, :, :, seen], asked[:, :, 0, :, None])[..., 0]  # (B, H, P)
        scores += np.matmul(distances[:, seen.start - seen.stop :], asked[:, :, 1, :, None])[..., 0]
        scores += self.hidden[..., seen]
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = np.matmul(scores[:, :, None], self.values[layer, :, :, seen])[:, :, 0]  # (B, H, D/H)
        mixed /= scores.sum(-1, keepdims=True)
        return np.asarray(mixed).reshape(rows, -1)
