"""Gates and cells of recurrent layers at every step, from the weights and the papers' equations; the papers are named
in `lstm.py`, `gru.py` and `rnn.py`.

PyTorch's layers give only what they hand on. There is no dropout: this is for looking at a trained model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Now = Mapping[str, Tensor]  # (..., D) each: everything a layer computes at one step
Equations = Callable[[Tensor, Tensor, Now], Now]  # W x_t + b, U h_{t-1} + b, and the step before


def lstm(entered: Tensor, again: Tensor, before: Now) -> Now:
    i, f, g, o = (entered + again).chunk(4, -1)
    cell = f.sigmoid() * before["cell"] + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * cell.tanh()
    return {"input": i.sigmoid(), "forget": f.sigmoid(), "output": o.sigmoid(), "cell": cell, "hidden": hidden}


def gru(entered: Tensor, again: Tensor, before: Now) -> Now:
    (r, z, n), (again_r, again_z, again_n) = entered.chunk(3, -1), again.chunk(3, -1)
    r, z = (r + again_r).sigmoid(), (z + again_z).sigmoid()
    new = (n + r * again_n).tanh()
    return {"reset": r, "update": z, "hidden": (1 - z) * new + z * before["hidden"]}


def rnn(entered: Tensor, again: Tensor, before: Now) -> Now:  # noqa: ARG001
    return {"hidden": (entered + again).tanh()}


def trace(equations: Equations, layers: Any, x: Tensor, start: Now | None = None) -> dict[str, Tensor]:
    """All that stacked layers compute, (L, ..., T, D) by name, over embedded tokens x (..., T, E), T >= 1.

    `layers` holds W, U and their biases, as PyTorch orders them; `start` what the state is before, (L, ..., D) by name.
    """
    stack = []
    for layer, (w, u, b_w, b_u) in enumerate(layers):
        blank = x.new_zeros(*x.shape[:-2], u.size(1))
        now: Now = {name: value[layer] for name, value in start.items()} if start else {"hidden": blank, "cell": blank}
        steps = []
        for entered in F.linear(x, w, b_w).unbind(-2):  # T times (..., G D) for G gates
            now = equations(entered, F.linear(now["hidden"], u, b_u), now)
            steps.append(now)
        stack.append({name: torch.stack([step[name] for step in steps], -2) for name in now})  # (..., T, D)
        x = stack[-1]["hidden"]
    return {name: torch.stack([traces[name] for traces in stack]) for name in stack[0]}
