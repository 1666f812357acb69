"""One token of one row, or of a few, at a time on a CPU, in NumPy.

Such a step reads every weight once and calls a hundred small functions. NumPy's matrix-vector products come closer to
the memory's speed than PyTorch's, and its calls cost a fraction (docs/results.md has the figures). Nothing here has a
meaning of its own: `tests/test_archs.py` holds each step to `features`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.archs._numpy_layers import ACTIVATIONS, ALL, Array, Experts, FeedForward, Linear, Norm, array
from charlm.archs._patterns import PatternConfig
from charlm.archs._sparse import keys_at
from charlm.archs._window import Window, cache_for
from charlm.config import fields_of
from charlm.model import State

FEW = 32  # rows; with more of them PyTorch is as fast
EPSILON = float(np.finfo(np.float32).eps)  # of PyTorch's rms_norm where none is given
TABLE = 1 << 24  # numbers in a table that is kept instead of a product per token


def on_cpu(model: nn.Module) -> bool:
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())


class LSTMStepper:
    """A stacked LSTM with its embedding and head, for one row.

    A sigmoid is half a tanh of half its argument, and a half: the rows of the three sigmoid gates are halved once, and
    one tanh serves all four. The first layer's input product depends on the token alone: it is a row of a table.
    """

    def __init__(self, embed: nn.Embedding, layers: Any, head: Any) -> None:
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
        self.head, self.size = Linear(head), size
        self.both = np.empty(2 * size, np.float32)

    def begin(self, state: State) -> None:
        self.h, self.c = (array(part[0]).copy() for part in state)  # (L, D) each, written into

    def entered(self, token: int) -> Array:
        """What a token adds to the first layer's gates."""
        if self.table is not None:
            row: Array = self.table[token]
            return row
        return np.asarray(np.dot(self.first, self.embedding[token]) + self.biases[0], np.float32)

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        h, c = self.h, self.c
        x = h[0]
        for layer, weight in enumerate(self.weights):
            if layer == 0:
                gates = np.dot(weight, h[0])
                gates += self.entered(int(token))
            else:
                self.both[: self.size], self.both[self.size :] = x, h[layer]
                gates = np.dot(weight, self.both)
                gates += self.biases[layer]
            np.tanh(gates, out=gates)
            gates *= self.scale
            gates += self.shift
            i, f, g, o = gates.reshape(4, -1)
            x, cell = h[layer], c[layer]
            cell *= f
            g *= i
            cell += g
            np.tanh(cell, out=x)
            x *= o
        return torch.from_numpy(self.head(x[None]))


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
    """A stack of blocks with embedding, positions and head.

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
        self.model, self.size, self.cache = model, model.capacity, cache_for(model, rows)
        self.tokens: list[Tensor] = []  # (B,) each, what the window holds
        self.heads, self.pre, self.qk_norm = c.head_count, c.norm_place == "pre", c.qk_norm
        self.all_heads = np.arange(self.heads)[:, None]
        self.keys, self.values = self.cache.keys.numpy(), self.cache.values.numpy()  # (L, B, H, W, D/H)
        self.width = c.hidden_size // c.head_count  # of a head
        halves = np.arange(self.width // 2)
        self.order = np.stack([halves, halves + self.width // 2], 1).reshape(-1)  # 0, D/2H, 1, D/2H + 1, …
        self.embedding = array(model.embed.weight)
        earlier = model.earlier  # tables (V + 1, D), the last token's first
        self.earlier = [] if earlier is None else np.split(array(earlier.weight), model.ngram - 1)[::-1]
        places = slice(self.size)
        nothing = torch.zeros(1, model.embed.embedding_dim)
        self.places = array(model.positions.add(nothing, places).expand(self.size, -1))  # (W, E)
        rotation = model.positions.rotation(places)  # (W, 2, D/H)
        self.turns = None
        if rotation is not None:
            cosines, sines = array(rotation)[..., self.width // 2 :].swapaxes(0, 1)  # (W, D/2H) each
            self.turns = cosines + 1j * sines  # complex64
        made = {block: self.made(block, c.activation) for block in model.blocks}  # once, if they share their weights
        self.blocks = [made[block] for block in model.blocks]
        self.widen = None if model.widen is None else Linear(model.widen)
        self.patterns = [block.pattern for block in model.blocks]
        self.norm = Norm(model.norm) if self.pre else None
        head: Any = model.head if isinstance(model.head, nn.Sequential) else [model.head]
        self.head = [Linear(part) for part in head]

    def made(self, block: Any, activation: str) -> Any:
        """Its parts, in their order."""
        feed = FeedForward if block.experts is None else Experts
        return (
            Norm(block.norm1),
            Linear(block.attention.qkv, self.paired()),
            Linear(block.attention.out),
            Norm(block.norm3),
            feed(block.feed_forward or block.experts, activation),
        )

    @torch.inference_mode()
    def begin(self, state: Window) -> None:
        self.tokens = list(state.tokens.unbind(1))
        self.cache.load(state.layers)
        if self.turns is not None:
            past = self.keys[:, :, :, : len(self.tokens)]
            past[:] = past[..., self.order]

    def paired(self) -> NDArray[np.intp] | slice:
        """The order of outputs that interleaves the two halves of each head's queries and keys, if they are turned."""
        if self.turns is None:
            return ALL
        outputs = np.arange(3 * self.heads * self.width).reshape(3, self.heads, self.width)
        outputs[:2] = outputs[:2][..., self.order]
        return outputs.reshape(-1)

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        if len(self.tokens) == self.size:
            self.begin(self.model.slide(torch.stack(self.tokens, 1)))
        at = len(self.tokens)  # its place in the window
        self.tokens.append(token)
        x = self.embedding[token.numpy()] + self.places[at]
        for back, earlier in enumerate(self.earlier, 2):
            x += earlier[self.tokens[-back].numpy() + 1 if back <= len(self.tokens) else 0]
        x = x if self.widen is None else self.widen(x)
        for layer, (norm1, qkv, out, norm2, feed) in enumerate(self.blocks):
            y = out(self.attend(qkv(norm1(x) if self.pre else x), layer, at))
            x = x + y if self.pre else norm1(x + y)
            y = feed(norm2(x) if self.pre else x)
            x = x + y if self.pre else norm2(x + y)
        x = self.norm(x) if self.norm else x
        for part in self.head:
            x = part(x)
        return torch.from_numpy(x)

    def attend(self, qkv: Array, layer: int, at: int) -> Array:
        """qkv (B, 3D) of the tokens at place `at` -> (B, D)."""
        keys, values, pattern = self.keys[layer], self.values[layer], self.patterns[layer]  # (B, H, W, D/H)
        qkv = np.ascontiguousarray(qkv).reshape(len(qkv), 3, self.heads, self.width)
        qk, v = qkv[:, :2], qkv[:, 2]  # (B, 2, H, D/H), (B, H, D/H)
        if self.qk_norm:
            squares = np.einsum("bkhd,bkhd->bkh", qk, qk)
            qk *= (squares / self.width + EPSILON)[..., None] ** -0.5
        if self.turns is not None:
            turned = qk.view(np.complex64)
            turned *= self.turns[at]
        keys[:, :, at], values[:, :, at] = qk[:, 1], v
        q = qk[:, 0] * self.width**-0.5
        seen = slice(at + 1) if pattern is None else keys_at(pattern, at)
        heads = self.all_heads if isinstance(seen, np.ndarray) and seen.ndim > 1 else ALL
        scores = np.matmul(keys[:, heads, seen], q[..., None])[..., 0]  # (B, H, P)
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = np.matmul(scores[:, :, None], values[:, heads, seen])[:, :, 0]  # (B, H, D/H)
        mixed /= scores.sum(-1, keepdims=True)
        return np.asarray(mixed).reshape(len(mixed), -1)
