"""Gated recurrent unit, stacked (Cho et al. 2014, arXiv:1406.1078, section 2.3).

PyTorch's form, which applies the reset gate after the recurrent product:

    r, z = sigmoid(split(W x_t + U h_{t-1} + b))
    n = tanh(W_n x_t + r * (U_n h_{t-1} + b_n))
    h_t = (1 - z) * n + z * h_{t-1}
"""

from __future__ import annotations

from torch import nn

from charlm.archs import _traces
from charlm.archs._recurrent import Stacked


class GRU(Stacked):
    """State: h (B, L, D)."""

    kind, equations = nn.GRU, staticmethod(_traces.gru)
