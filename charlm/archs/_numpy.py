"""One token of one row, or of a few, at a time on a CPU, in NumPy.

Such a step reads every weight once and calls a hundred small functions. NumPy's matrix-vector products come closer to
the memory's speed than PyTorch's, and its calls cost a fraction (docs/results.md has the figures). Nothing here has a
meaning of its own: `tests/test_archs.py` holds each step to `features`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.archs._window import Window, WindowStepper
from charlm.config import fields_of
from charlm.model import Head, State
from charlm.quantize import Int8Linear, int8_matmul

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
        self.weight = array(module.output_weight if isinstance(module, Head) else module.weight)[order]

    def __call__(self, x: Array) -> Array:
        y: Array
        if self.int8:
            y = int8_matmul(torch.from_numpy(np.ascontiguousarray(x)), *self.int8).numpy()
        else:
            y = np.dot(self.weight, x[0])[None] if len(x) == 1 else np.dot(self.weight, x.T).T
        if self.bias is not None:
            y += self.bias
        return y


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


def gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))), np.float32)


def relu2(x: Array) -> Array:
    x = np.maximum(x, 0)
    return x * x


def swiglu(x: Array) -> Array:
    gate, x = np.split(x, 2, -1)
    return np.asarray(x * gate / (1 + np.exp(-np.maximum(gate, -80))))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": gelu,
    "relu2": relu2,
    "swiglu": swiglu,
}
KNOWN: dict[str, tuple[str, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "norm": ("layer", "rms"),
    "norm_place": ("pre", "post"),
    "positions": ("sinusoidal", "learned", "rotary", "none"),
}
"""The options of transformers that stand for code, with the values for which there is such code in this file."""
NUMBERS = {"layers", "hidden_size", "heads", "qk_norm", "bias", "dropout", "tied", "init", "ngram"}  # no code differs


class TransformerStepper(WindowStepper):
    """A stack of blocks with embedding, positions and head.

    Rotary pairs are stored side by side, as complex numbers, so that turning them is one product. Queries and keys are
    reordered alike, which changes no product between them.
    """

    @staticmethod
    def suits(model: Any, rows: int) -> bool:
        """Whether this is faster than PyTorch, and knows all that the model's options mean."""
        options = {field.name: getattr(model.config, field.name) for field in fields_of(type(model.config))}
        code = {name: value for name, value in options.items() if name not in NUMBERS}
        return rows <= FEW and on_cpu(model) and all(value in KNOWN.get(name, ()) for name, value in code.items())

    @torch.inference_mode()
    def __init__(self, model: Any, rows: int) -> None:
        super().__init__(model, rows)
        c = model.config
        self.heads, self.pre, self.qk_norm = c.head_count, c.norm_place == "pre", c.qk_norm
        self.activate = ACTIVATIONS[c.activation]
        self.keys, self.values = self.cache.keys.numpy(), self.cache.values.numpy()  # (L, B, H, W, D/H)
        self.width = c.hidden_size // c.head_count  # of a head
        self.order = np.arange(self.width).reshape(2, -1).T.reshape(-1)  # 0, D/2H, 1, D/2H + 1, …
        self.embedding = array(model.embed.weight)
        earlier = model.earlier  # tables (V + 1, D), the last token's first
        self.earlier = [] if earlier is None else np.split(array(earlier.weight), model.ngram - 1)[::-1]
        places = slice(self.size)
        nothing = torch.zeros(1, c.hidden_size)
        self.places = array(model.positions.add(nothing, places).expand(self.size, -1))  # (W, D)
        rotation = model.positions.rotation(places)  # (W, 2, D/2H)
        self.turns = None if rotation is None else array(rotation)[:, 0] + 1j * array(rotation)[:, 1]  # complex64
        self.blocks = [
            (
                Norm(block.norm1),
                Linear(block.attention.qkv, self.paired()),
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
    def begin(self, state: Window) -> None:
        super().begin(state)
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

    def logits(self, token: Tensor) -> Tensor:
        at = len(self.tokens) - 1  # its place in the window
        x = self.embedding[token.numpy()] + self.places[at]
        for back, earlier in enumerate(self.earlier, 2):
            x += earlier[self.tokens[-back].numpy() + 1 if back <= len(self.tokens) else 0]
        for layer, (norm1, qkv, out, norm2, up, down) in enumerate(self.blocks):
            y = out(self.attend(qkv(norm1(x) if self.pre else x), self.keys[layer], self.values[layer], at))
            x = x + y if self.pre else norm1(x + y)
            y = down(self.activate(up(norm2(x) if self.pre else x)))
            x = x + y if self.pre else norm2(x + y)
        return torch.from_numpy(self.head(self.norm(x) if self.norm else x))

    def attend(self, qkv: Array, keys: Array, values: Array, at: int) -> Array:
        """qkv (B, 3D) of the tokens at place `at`; keys and values (B, H, W, D/H) -> (B, D)."""
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
        scores = np.matmul(keys[:, :, : at + 1], q[..., None])[..., 0]  # (B, H, P)
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = np.matmul(scores[:, :, None], values[:, :, : at + 1])[:, :, 0]  # (B, H, D/H)
        mixed /= scores.sum(-1, keepdims=True)
        return np.asarray(mixed).reshape(len(mixed), -1)
