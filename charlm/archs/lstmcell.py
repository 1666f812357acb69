"""The LSTM as an explicit loop over time, for reading and for looking inside.

Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735. The same equations and the same numbers as `lstm`, in
`rnn[layer]` instead of one fused layer; slower, because every time step is a call of its own.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from charlm.archs import _traces
from charlm.archs._inside import layer_parts, without_outputs
from charlm.archs._numpy import LSTMStepper, on_cpu
from charlm.archs._recurrent import LSTMConfig, Recurrent, raise_forget_bias
from charlm.inspection import Part
from charlm.model import RowStepper, State, Stepper


class LSTMCell(Recurrent):
    """State: (h, c), each (B, L, D), the same as `lstm`'s."""

    Config = LSTMConfig
    config: LSTMConfig
    memories, equations = 2, staticmethod(_traces.lstm)
    rnn: nn.ModuleList

    def build(self, input_size: int) -> nn.Module:
        c = self.config
        sizes = [input_size] + [c.hidden_size] * (c.layers - 1)
        cells = nn.ModuleList(nn.LSTMCell(size, c.hidden_size) for size in sizes)
        raise_forget_bias(cells, c.forget_bias)
        return cells

    def stepper(self, rows: int) -> Stepper:
        if rows > 1 or not on_cpu(self):
            return super().stepper(rows)
        return LSTMStepper(self.embed, self.all_weights, self.head)

    def row_stepper(self, rows: int) -> RowStepper:
        return LSTMStepper(self.embed, self.all_weights, self.head, rows) if on_cpu(self) else super().row_stepper(rows)

    @property
    def all_weights(self) -> list[Any]:
        return [[cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh] for cell in self.rnn]

    def parts(self) -> list[Part]:
        size, layers = self.config.hidden_size, enumerate(self.rnn, 1)
        parts = [layer_parts(f"layer {n}", partial(without_outputs, cell), size) for n, cell in layers]
        return list(chain(*parts))

    def recur(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        last = []
        for layer, cell in enumerate(self.rnn):
            if layer:
                x = F.dropout(x, self.config.dropout, self.training)
            weights = self.dropped(cell, state)
            now = state[0][:, layer], state[1][:, layer]
            hidden = []
            for x_t in x.unbind(1):  # T times (B, E)
                now = functional_call(cell, weights, (x_t, now)) if weights else cell(x_t, now)
                hidden.append(now[0])
            x = torch.stack(hidden, 1)  # (B, T, D)
            last.append(now)
        h, c = zip(*last, strict=True)
        return x, (torch.stack(h, 1), torch.stack(c, 1))  # (B, L, D) each
