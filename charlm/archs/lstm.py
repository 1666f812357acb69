"""Long short-term memory, stacked (Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735).

With forget gates (Gers, Schmidhuber & Cummins 2000, doi:10.1162/089976600300015015, section 3) whose bias starts at 1
(Jozefowicz, Zaremba & Sutskever 2015, section 5), and no peepholes. Per layer:

    i, f, g, o = split(W x_t + U h_{t-1} + b)
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(c_t)
"""

from __future__ import annotations

from torch import nn

from charlm.archs import _traces
from charlm.archs._numpy import LSTMStepper, on_cpu
from charlm.archs._recurrent import LSTMConfig, Stacked, raise_forget_bias
from charlm.model import RowStepper, Stepper


class LSTM(Stacked):
    """State: (h, c), each (B, L, D)."""

    Config = LSTMConfig
    config: LSTMConfig
    kind = nn.LSTM
    memories, equations = 2, staticmethod(_traces.lstm)
    recipes = Stacked.recipes | {
        "long": {"hidden_size": 512, "dropout": 0.5, "weight_decay": 0.15, "lr": 4e-3},
        "text on cuda": {
            "hidden_size": 1024,
            "seq_len": 128,
            "dropout": 0.6,
            "input_dropout": 0.1,
            "weight_drop": 0.3,
            "weight_decay": 0.15,
            "lr": 3e-3,
        },
        "long on cuda": {"dropout": 0.7, "weight_drop": 0.5},
    }
    bf16_from = 192

    def build(self, input_size: int) -> nn.Module:
        rnn = super().build(input_size)
        raise_forget_bias(rnn, self.config.forget_bias)
        return rnn

    def stepper(self, rows: int) -> Stepper:
        if rows > 1 or not on_cpu(self):
            return super().stepper(rows)
        return LSTMStepper(self.embed, self.all_weights, self.head)

    def row_stepper(self, rows: int) -> RowStepper:
        return LSTMStepper(self.embed, self.all_weights, self.head, rows) if on_cpu(self) else super().row_stepper(rows)
