"""One token of one row, or of a few, at a time on a CPU, in NumPy.

Such a step reads every weight once and calls a hundred small functions. NumPy's matrix-vector products come closer to
the memory's speed than PyTorch's, and its calls cost a fraction (docs/results.md has the figures). Nothing here has a
meaning of its own: `tests/test_archs.py` holds each step to `features`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.archs._numpy_layers import ACTIVATIONS, ALL, Array, Experts, FeedForward, Linear, Norm, array, product
from charlm.archs._patterns import PatternConfig
from charlm.archs._sparse import Keys, keys_at
from charlm.archs._window import Window
from charlm.config import fields_of
from charlm.model import State

FEW = 32  # rows; with more of them PyTorch is as fast
EPSILON = float(np.finfo(np.float32).eps)  # of PyTorch's rms_norm where none is given
MINUS_INFINITY = np.float32(-np.inf)
TABLE = 1 << 24  # numbers in a table that is kept instead of a product per token


def on_cpu(model: nn.Module) -> bool:
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())


class LSTMStepper:
    """A stacked LSTM with its embedding and head; its rows may be at different places.

    A sigmoid is half a tanh of half its argument, and a half: the rows of the three sigmoid gates are halved once, and
    one tanh serves all four. The first layer's input product depends on the token alone: it is a row of a table.
    """

    def __init__(self, embed: nn.Embedding, layers: Any, head: Any, rows: int = 1) -> None:
        """`layers` holds for each layer W, U and their biases, as PyTorch orders them."""
        size = head.in_features
        half = torch.tensor([0.5, 0.5, 1.0, 0.5]).repeat_interleave(size)  # input, forget, cell, output
        self.scale, self.shift = array(half), array(1 - half)
        self.shift[2 * size : 3 * size] = 0
        self.weights, self.biases = [], []
        for number, (w, u, b_w, b_u) in enumerate(layers):
            both = torch.cat([w, u], 1) if number else u  # (4D, 2D), first (4D, D)
            self.weights.append(array(half[:, None] * both))
            self.biases.append(array(half * (b_w + b_u)))
        self.embedding, self.first = array(embed.weight), array(half[:, None] * layers[0][0])
        self.table = None
        if embed.num_embeddings * 4 * size <= TABLE:
            self.table = self.embedding @ self.first.T + self.biases[0]  # (V, 4D)
        self.alone = rows == 1
        self.head, self.size = Linear(head, several=not self.alone), size
        self.h, self.c = np.zeros((2, len(layers), rows, size), np.float32)  # (L, B, D) each, written into

    def begin(self, state: State) -> None:
        self.h[:], self.c[:] = (array(part).swapaxes(0, 1) for part in state)

    def put(self, row: int, state: State) -> None:
        self.h[:, row], self.c[:, row] = (array(part[0]) for part in state)

    def move(self, source: int, row: int) -> None:
        for memory in (self.h, self.c):
            memory[:, row] = memory[:, source]

    def entered(self, token: Any) -> Array:
        """What tokens (B,), or one, add to the first layer's gates."""
        if self.table is not None:
            rows: Array = self.table[token]
            return rows
        return np.asarray(np.dot(self.embedding[token], self.first.T) + self.biases[0], np.float32)

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        rows: Any = 0 if self.alone else slice(len(token))  # vectors (D,) are faster than rows (1, D)
        size, x = self.size, self.h[0, rows]
        for layer, weight in enumerate(self.weights):
            h, c = self.h[layer, rows], self.c[layer, rows]
            read = np.concatenate([x, h], -1) if layer else h
            gates = np.dot(weight, read) if self.alone else product(weight, read)
            gates += self.biases[layer] if layer else self.entered(int(token) if self.alone else token.numpy())
            np.tanh(gates, out=gates)
            gates *= self.scale
            gates += self.shift
            c *= gates[..., size : 2 * size]
            c += gates[..., :size] * gates[..., 2 * size : 3 * size]
            np.tanh(c, out=h)
            h *= gates[..., 3 * size :]
            x = h
        return torch.from_numpy(self.head(x[None] if self.alone else x))


KNOWN: dict[str, tuple[str, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "norm": ("layer", "rms"),
    "norm_place": ("pre", "post"),
    "positions": ("sinusoidal", "learned", "rotary", "none"),
}
"""The options of transformers that stand for code, with the values for which there is such code in this file."""
ANY_VALUE = {
    *("layers", "hidden_size", "heads", "qk_norm", "bias", "dropout", "tied", "init", "ngram"),
    *("embedding_size", "share_layers", "experts", "capacity_factor", "balance"),
    *(field.name for field in fields_of(PatternConfig)),  # a list of keys is all that a step wants of a pattern
}
"""Options for whose every value the code in this file is the same."""


class TransformerStepper:
    """A stack of blocks with embedding, positions and head; its rows may be at different places.

    Rotary pairs are stored side by side, as complex numbers, so that turning them is one product. Queries and keys are
    reordered alike, which changes no product between them.
    """

    @staticmethod
    def suits(model: Any, rows: int) -> bool:
        """Whether this is faster than PyTorch, and knows all that the model's options mean."""
        options = {field.name: getattr(model.config, field.name) for field in fields_of(type(model.config))}
        code = {name: value for name, value in options.items() if name not in ANY_VALUE}
        return rows <= FEW and on_cpu(model) and all(value in KNOWN.get(name, ()) for name, value in code.items())

    @torch.inference_mode()
    def __init__(self, model: Any, rows: int) -> None:
        c = model.config
        self.model, self.size = model, model.capacity
        self.tokens = np.zeros((rows, self.size), np.int64)  # what the windows hold
        self.held = np.zeros(rows, np.int64)  # how many tokens these are
        self.rows, self.columns = np.arange(rows), np.arange(self.size)
        self.heads, self.pre, self.qk_norm = c.head_count, c.norm_place == "pre", c.qk_norm
        self.all_heads = np.arange(self.heads)[:, None]
        self.width = c.hidden_size // c.head_count  # of a head
        shape = c.layers, rows, self.heads, self.size, self.width
        self.keys, self.values = np.zeros((2, *shape), np.float32)  # (L, B, H, W, D/H)
        halves = np.arange(self.width // 2)
        self.order = np.stack([halves, halves + self.width // 2], 1).reshape(-1)  # 0, D/2H, 1, D/2H + 1, …
        self.embedding = array(model.embed.weight)
        earlier = model.earlier  # tables (V + 1, D), the last token's first
        self.earlier = [] if earlier is None else np.split(array(earlier.weight), model.ngram - 1)[::-1]
        window = slice(self.size)
        nothing = torch.zeros(1, model.embed.embedding_dim)
        self.places = array(model.positions.add(nothing, window).expand(self.size, -1))  # (W, E)
        rotation = model.positions.rotation(window)  # (W, 2, D/H)
        self.turns = None
        if rotation is not None:
            cosines, sines = array(rotation)[..., self.width // 2 :].swapaxes(0, 1)  # (W, D/2H) each
            self.turns = cosines + 1j * sines  # complex64
        made = {block: self.made(block, c.activation) for block in model.blocks}  # once, if they share their weights
        self.blocks = [made[block] for block in model.blocks]
        self.widen = None if model.widen is None else Linear(model.widen, several=rows > 1)
        self.patterns = [block.pattern for block in model.blocks]
        self.norm = Norm(model.norm) if self.pre else None
        head: Any = model.head if isinstance(model.head, nn.Sequential) else [model.head]
        self.head = [Linear(part, several=rows > 1) for part in head]

    def made(self, block: Any, activation: str) -> Any:
        """Its parts, in their order."""
        feed, several = FeedForward if block.experts is None else Experts, len(self.rows) > 1
        return (
            Norm(block.norm1),
            Linear(block.attention.qkv, self.paired(), several=several),
            Linear(block.attention.out, several=several),
            Norm(block.norm3),
            feed(block.feed_forward or block.experts, activation, several=several),
        )

    def begin(self, state: Window) -> None:
        self.load(ALL, state)

    def put(self, row: int, state: Window) -> None:
        self.load(slice(row, row + 1), state)

    def move(self, source: int, row: int) -> None:
        held = self.held[row] = self.held[source]
        self.tokens[row] = self.tokens[source]
        for memory in (self.keys, self.values):
            memory[:, row, :, :held] = memory[:, source, :, :held]

    @torch.inference_mode()
    def load(self, rows: slice | NDArray[np.intp], state: Window) -> None:
        """Let these rows go on from `state`, which is of as many."""
        held = self.held[rows] = state.tokens.size(1)
        self.tokens[rows, :held] = state.tokens.numpy()
        order = ALL if self.turns is None else self.order
        for keys, values, kv in zip(self.keys, self.values, state.layers, strict=True):
            keys[rows, :, :held], values[rows, :, :held] = array(kv.keys)[..., order], array(kv.values)

    def paired(self) -> NDArray[np.intp] | slice:
        """The order of outputs that interleaves the two halves of each head's queries and keys, if they are turned."""
        if self.turns is None:
            return ALL
        outputs = np.arange(3 * self.heads * self.width).reshape(3, self.heads, self.width)
        outputs[:2] = outputs[:2][..., self.order]
        return outputs.reshape(-1)

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        rows = self.rows[: len(token)]
        full = np.flatnonzero(self.held[: len(rows)] == self.size)
        if len(full):
            self.load(full, self.model.slide(torch.from_numpy(self.tokens[full])))
        places = self.held[: len(rows)].copy()  # (B,) of the tokens in their windows
        self.tokens[rows, places] = token.numpy()
        self.held[: len(rows)] += 1
        at = int(places[0]) if len(rows) == 1 or (places == places[0]).all() else places
        x = self.embedding[token.numpy()] + self.places[at]
        for back, earlier in enumerate(self.earlier, 1):
            known = self.tokens[rows, np.maximum(places - back, 0)] + 1
            x += earlier[np.where(places < back, 0, known)]
        x = x if self.widen is None else self.widen(x)
        bias = None
        if len(rows) > 1:
            later = self.columns[: int(places.max()) + 1] > places[:, None]  # (B, P)
            bias = np.where(later, MINUS_INFINITY, 0)
        for layer, (norm1, qkv, out, norm2, feed) in enumerate(self.blocks):
            y = out(self.attend(qkv(norm1(x) if self.pre else x), layer, at, bias))
            x = x + y if self.pre else norm1(x + y)
            y = feed(norm2(x) if self.pre else x)
            x = x + y if self.pre else norm2(x + y)
        x = self.norm(x) if self.norm else x
        for part in self.head:
            x = part(x)
        return torch.from_numpy(x)

    def attend(self, qkv: Array, layer: int, at: int | NDArray[np.int64], bias: Array | None) -> Array:
        """qkv (B, 3D) of the tokens at place `at`, or at places (B,) of their own -> (B, D). Of several rows the `bias`
        (B, P) hides the places after them."""
        rows, pattern = self.rows[: len(qkv)], self.patterns[layer]
        qkv = np.ascontiguousarray(qkv).reshape(len(rows), 3, self.heads, self.width)
        qk, v = qkv[:, :2], qkv[:, 2]  # (B, 2, H, D/H), (B, H, D/H)
        if self.qk_norm:
            squares = np.einsum("bkhd,bkhd->bkh", qk, qk)
            qk *= (squares / self.width + EPSILON)[..., None] ** -0.5
        if self.turns is not None:
            turned = qk.view(np.complex64)
            turned *= self.turns[at] if isinstance(at, int) else self.turns[at][:, None, None]
        self.keys[layer, rows, :, at], self.values[layer, rows, :, at] = qk[:, 1], v
        q = qk[:, 0] * self.width**-0.5  # (B, H, D/H)
        if pattern is None and bias is not None:
            return self.mixed_as_one(q, layer, bias)
        if isinstance(at, int):
            return self.mixed(q, layer, slice(len(rows)), slice(at + 1) if pattern is None else keys_at(pattern, at))
        seen = [keys_at(pattern, place) for place in at.tolist()]
        return np.concatenate([self.mixed(q[n : n + 1], layer, slice(n, n + 1), seen[n]) for n in rows])

    def mixed_as_one(self, q: Array, layer: int, bias: Array) -> Array:
        """q (B, H, D/H), at all keys that the bias (B, P) does not hide -> (B, D)."""
        rows, longest = bias.shape
        keys, values = (torch.from_numpy(held[layer, :rows, :, :longest]) for held in (self.keys, self.values))
        query, mask = torch.from_numpy(q)[:, :, None], torch.from_numpy(bias)[:, None, None]
        mixed = F.scaled_dot_product_attention(query, keys, values, mask, scale=1.0)  # (B, H, 1, D/H)
        return np.asarray(mixed.numpy()).reshape(rows, -1)

    def mixed(self, q: Array, layer: int, rows: slice, seen: Keys) -> Array:
        """q (B, H, D/H) of some rows, at the keys that are seen -> (B, D)."""
        heads = self.all_heads if isinstance(seen, np.ndarray) and seen.ndim > 1 else ALL
        scores = np.matmul(self.keys[layer, rows][:, heads, seen], q[..., None])[..., 0]  # (B, H, P)
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = np.matmul(scores[:, :, None], self.values[layer, rows][:, heads, seen])[:, :, 0]  # (B, H, D/H)
        mixed /= scores.sum(-1, keepdims=True)
        return np.asarray(mixed).reshape(len(mixed), -1)
