"""Layers in NumPy, with the weights of a PyTorch model: what `_numpy.py` writes with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.model import Head
from charlm.quantize import Int8Linear, int8_matmul

Array = NDArray[np.float32]

ALL = slice(None)


def array(t: Tensor) -> Array:
    return t.detach().contiguous().numpy()


def product(weight: Array, x: Array) -> Array:
    """weight (out, in) by rows x (B, in) -> (B, out), in PyTorch."""
    return F.linear(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(weight)).numpy()


class Linear:
    """y = W x + b on rows (B, in).

    A stepper for one row multiplies in NumPy, one for several in PyTorch, even while one of them is in use: the threads
    of both would take the cores from one another.
    """

    def __init__(
        self, module: nn.Linear | Int8Linear, order: NDArray[np.intp] | slice = ALL, *, several: bool = False
    ) -> None:
        """`order` says which output stands where."""
        self.several = several
        self.bias = None if module.bias is None else array(module.bias)[order]
        self.int8 = (module.weight[order], module.scale[order]) if isinstance(module, Int8Linear) else None
        self.weight = array(module.output_weight if isinstance(module, Head) else module.weight)[order]

    def __call__(self, x: Array) -> Array:
        y: Array
        if self.int8:
            y = int8_matmul(torch.from_numpy(np.ascontiguousarray(x)), *self.int8).numpy()
        elif self.several or len(x) > 1:
            y = product(self.weight, x)
        else:
            y = np.asarray(np.dot(self.weight, x[0])[None])
        if self.bias is not None:
            y += self.bias
        return y


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


class FeedForward:
    def __init__(self, module: Any, activation: str, *, several: bool = False) -> None:
        self.up, self.out = Linear(module.up, several=several), Linear(module.out, several=several)
        self.activate = ACTIVATIONS[activation]

    def __call__(self, x: Array) -> Array:
        return self.out(self.activate(self.up(x)))


class Experts:
    """Feed-forward layers, of which each row gets the one that the router gives the largest share."""

    def __init__(self, module: Any, activation: str, *, several: bool = False) -> None:
        self.router = Linear(module.router, several=several)
        self.experts = [FeedForward(expert, activation, several=several) for expert in module.experts]

    def __call__(self, x: Array) -> Array:
        shares = self.router(x)  # (B, N)
        shares = np.exp(shares - shares.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        chosen, y = shares.argmax(-1), np.empty_like(x)
        for number in np.unique(chosen):
            rows = chosen == number
            y[rows] = self.experts[number](x[rows]) * shares[rows, number, None]
        return y
