"""Simple recurrent network, stacked (Elman 1990, doi:10.1207/s15516709cog1402_1).

h_t = tanh(W x_t + U h_{t-1} + b)
"""

from __future__ import annotations

from torch import nn

from charlm.archs import _traces
from charlm.archs._recurrent import Stacked


class RNN(Stacked):
    """State: h (B, L, D)."""

    kind, equations = nn.RNN, staticmethod(_traces.rnn)
    recipes = Stacked.recipes | {"text": {**Stacked.recipes["text"], "lr": 2e-3}}
