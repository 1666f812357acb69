"""One token of one row, or of a few, at a time on a CPU, in NumPy.

Such a step reads every weight once and calls a hundred small functions. NumPy's matrix-vector products come closer to
the memory's speed than PyTorch's, and its calls cost a fraction (docs/results.md has the figures). Nothing here has a
meaning of its own: `tests/test_archs.py` holds each step to `features`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.model import State
from charlm.quantize import Int8Linear, product

Array = NDArray[np.float32]

FEW = 32  # rows; with more of them PyTorch is as fast
EPSILON = float(np.finfo(np.float32).eps)  # of PyTorch's rms_norm where none is given
ALL = slice(None)
TABLE = 1 << 24  # numbers in a table that is kept instead of a product per token


def array(t: Tensor) -> Array:
    return t.detach().contiguous().numpy()


class Linear:
    """y = W x + b on rows (B, in). Few rows are faster as columns of the product's right side, W X."""

    def __init__(self, module: nn.Linear | Int8Linear, order: NDArray[np.intp] | slice = ALL) -> None:
        """`order` says which output stands where."""
        self.bias = None if module.bias is None else array(module.bias)[order]
        self.int8 = (module.weight[order], module.scale[order]) if isinstance(module, Int8Linear) else None
        self.weight = array(module.weight)[order]

    def __call__(self, x: Array) -> Array:
        y: Array
        if self.int8:
            y = product(torch.from_numpy(np.ascontiguousarray(x)), *self.int8).numpy()
        else:
            y = np.dot(self.weight, x[0])[None] if len(x) == 1 else np.dot(self.weight, x.T).T
        if self.bias is not None:
            y += self.bias
        return y


def on_cpu(model: nn.Module) -> bool:
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())


class LSTMStep:
    """A stacked LSTM with its embedding and head. State: (h, c), each (L, D), written into.

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

    def entered(self, token: int) -> Array:
        """What a token adds to the first layer's gates."""
        if self.table is not None:
            row: Array = self.table[token]
            return row
        return np.asarray(np.dot(self.first, self.embedding[token]) + self.biases[0], np.float32)

    @torch.inference_mode()
    def __call__(self, token: Tensor, state: State) -> tuple[Tensor, tuple[Array, Array]]:
        if state is None:
            state = np.zeros((2, len(self.weights), self.size), np.float32)
        h, c = (array(part[0]) if isinstance(part, Tensor) else part for part in state)
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
            enter, keep, new, leave = gates.reshape(4, -1)
            x, cell = h[layer], c[layer]
            cell *= keep
            new *= enter
            cell += new
            np.tanh(cell, out=x)
            x *= leave
        return torch.from_numpy(self.head(x[None])), (h, c)


class Norm:
    """Root-mean-square or layer normalisation of rows (B, D)."""

    def __init__(self, module: nn.RMSNorm | nn.LayerNorm) -> None:
        self.gain, self.eps = array(module.weight), float(module.eps or 0)
        self.centred = isinstance(module, nn.LayerNorm)
        bias = getattr(module, "bias", None)
        self.bias = None if bias is None else array(bias)

    def __call__(self, x: Array) -> Array:
        if self.centred:
            x = x - x.mean(-1, keepdims=True)
        y: Array = x * (np.einsum("bd,bd->b", x, x)[:, None] / x.shape[1] + self.eps) ** -0.5
        y *= self.gain
        if self.bias is not None:
            y += self.bias
        return y


class Rows(NamedTuple):
    """What a transformer's window holds."""

    tokens: list[NDArray[np.int64]]  # (B,) each
    keys: Array  # (L, B, H, W, D/H)
    values: Array  # (L, B, H, W, D/H)


class TransformerStep:
    """A stack of blocks with embedding, positions and head. State: `Rows`, written into, or a cache that was read.

    Rotary pairs are stored side by side, as complex numbers, so that turning them is one product. Queries and keys are
    reordered alike, which changes no product between them.
    """

    def __init__(self, model: Any) -> None:
        c = model.config
        self.model, self.room, self.heads, self.pre = model, model.spec.seq_len, c.head_count, c.norm_place == "pre"
        self.qk_norm, self.activation = c.qk_norm, c.activation
        self.size = c.hidden_size // c.head_count  # of a head
        self.order = np.arange(self.size).reshape(2, -1).T.reshape(-1)  # 0, D/2H, 1, D/2H + 1, …
        self.embedding = array(model.embed.weight)
        earlier = model.earlier  # tables (V + 1, D), the last token's first
        self.earlier = [] if earlier is None else np.split(array(earlier.weight), model.ngram - 1)[::-1]
        table = model.place.weight if model.place is not None else model.table
        self.table = None if table is None else array(table)
        self.turns: NDArray[np.complex64] | None = None  # (W, D/2H)
        if self.table is not None and c.positions == "rotary":
            self.turns, self.table = self.table[:, 0] + 1j * self.table[:, 1], None
        self.blocks = [
            (
                Norm(block.norm1),
                Linear(block.attention.qkv, self.paired()),
                Linear(block.attention.out),
                Norm(block.norm2),
                Linear(block.feed_forward.up),
                Linear(block.feed_forward.out),
            )
            for block in model.blocks
        ]
        self.norm = Norm(model.norm) if self.pre else None
        self.head = Linear(model.head)

    def adopt(self, cache: Any, count: int) -> Rows:
        """The same window, from the model's own cache of so many rows."""
        tokens = [] if cache is None else list(cache.tokens.T.numpy())
        rows = Rows(tokens, *np.empty((2, len(self.blocks), count, self.heads, self.room, self.size), np.float32))
        for layer, past in enumerate(cache.layers if tokens else ()):
            for to, part in ((rows.keys, past.keys), (rows.values, past.values)):
                to[layer, :, :, : len(tokens)] = array(part[:, :, : len(tokens)])
        if self.turns is not None:
            rows.keys[:] = rows.keys[..., self.order]
        return rows

    def paired(self) -> NDArray[np.intp] | slice:
        """The order of outputs that interleaves the two halves of each head's queries and keys, if they are turned."""
        if self.turns is None:
            return ALL
        outputs = np.arange(3 * self.heads * self.size).reshape(3, self.heads, self.size)
        outputs[:2] = outputs[:2][..., self.order]
        return outputs.reshape(-1)

    @torch.inference_mode()
    def __call__(self, token: Tensor, state: State) -> tuple[Tensor, Rows]:
        rows = state if isinstance(state, Rows) else self.adopt(state, len(token))
        if len(rows.tokens) == self.room:  # slide as the model does
            newest = torch.from_numpy(np.stack(rows.tokens[-(self.room // 2) :], 1))  # (B, W/2)
            rows = self.adopt(self.model.features(newest).state, len(token))
        at = len(rows.tokens)
        rows.tokens.append(token.numpy())
        x = self.embedding[rows.tokens[-1]]
        for back, earlier in enumerate(self.earlier, 2):
            x = x + earlier[rows.tokens[-back] + 1 if back <= len(rows.tokens) else 0]
        if self.table is not None:
            x = x + self.table[at]
        for layer, (norm1, qkv, out, norm2, up, down) in enumerate(self.blocks):
            y = out(self.attend(qkv(norm1(x) if self.pre else x), rows.keys[layer], rows.values[layer], at))
            x = x + y if self.pre else norm1(x + y)
            y = down(self.activate(up(norm2(x) if self.pre else x)))
            x = x + y if self.pre else norm2(x + y)
        return torch.from_numpy(self.head(self.norm(x) if self.norm else x)), rows

    def attend(self, qkv: Array, keys: Array, values: Array, at: int) -> Array:
        """qkv (B, 3D) of the tokens at place `at`; keys and values (B, H, W, D/H) -> (B, D)."""
        qkv = np.ascontiguousarray(qkv).reshape(len(qkv), 3, self.heads, self.size)
        qk, v = qkv[:, :2], qkv[:, 2]  # (B, 2, H, D/H), (B, H, D/H)
        if self.qk_norm:
            squares = np.einsum("bkhd,bkhd->bkh", qk, qk)
            qk *= (squares / self.size + EPSILON)[..., None] ** -0.5
        if self.turns is not None:
            turned = qk.view(np.complex64)
            turned *= self.turns[at]
        keys[:, :, at], values[:, :, at] = qk[:, 1], v
        q = qk[:, 0] * self.size**-0.5
        scores = np.matmul(keys[:, :, : at + 1], q[..., None])[..., 0]  # (B, H, P)
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = np.matmul(scores[:, :, None], values[:, :, : at + 1])[:, :, 0]  # (B, H, D/H)
        mixed /= scores.sum(-1, keepdims=True)
        return np.asarray(mixed).reshape(len(mixed), -1)

    def activate(self, x: Array) -> Array:
        if self.activation == "swiglu":
            gate, x = np.split(x, 2, -1)
            return np.asarray(x * gate / (1 + np.exp(-np.maximum(gate, -80))))
        if self.activation == "gelu":
            return np.asarray(0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))), np.float32)
        x = np.maximum(x, 0)
        return x * x if self.activation == "relu2" else x
