"""What every recurrent language model shares: embedding, dropout, state that is carried on, head.

Dropout follows Zaremba, Sutskever & Vinyals (2014, arXiv:1409.2329, section 3.2): never on the recurrent connection.
Weight drop is the exception by design: it zeroes recurrent weights, one mask for the whole sequence
(Merity, Keskar & Socher 2018, arXiv:1708.02182, section 2).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs import _traces
from charlm.archs._graph import CarriedStepper
from charlm.archs._inside import fused_parts, named_layers
from charlm.archs._layers import dropout, run, run_each
from charlm.config import Arg, DataSpec, Settings
from charlm.errors import SettingsError
from charlm.inspection import Part
from charlm.model import (
    Features,
    Head,
    Init,
    LanguageModel,
    RowStepper,
    State,
    Stepper,
    detach,
    init_unigram,
    map_state,
)
from charlm.stepping import JoinedRows


@dataclass(frozen=True)
class RecurrentConfig(Settings):
    layers: Annotated[int, Arg("stacked recurrent layers", min=1, max=64)] = 1
    hidden_size: Annotated[int, Arg("units per layer", min=1, max=65536)] = 384
    embedding_size: Annotated[
        int | None, Arg("numbers per embedded token [default: 64; the hidden size if tied]", min=1, max=65536)
    ] = None
    dropout: Annotated[float, Arg("on the output and between layers", min=0, max=0.95)] = 0.1
    input_dropout: Annotated[float, Arg("on the embedded tokens", min=0, max=0.95)] = 0.0
    weight_drop: Annotated[float, Arg("on the recurrent weights", min=0, max=0.95)] = 0.0
    tied: Annotated[bool, Arg("let the output use the embedding's weights")] = False
    init: Init = "unigram"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.embedding_size not in (None, self.hidden_size):
            raise SettingsError(
                "--tied needs an --embedding-size equal to --hidden-size "
                f"({self.hidden_size}), got {self.embedding_size}",
                field="tied",
            )


class Recurrent(LanguageModel):
    """Embeds, runs `recur`, drops out, and carries its state across segments (truncated backpropagation in time)."""

    Config = RecurrentConfig
    config: RecurrentConfig
    recipes = {
        "text": {"weight_decay": 0.1},
        "labels": {"lr": 2e-3},
        "text on cuda": {"hidden_size": 512, "dropout": 0.5, "lr": 2e-3},
        "long on cuda": {"dropout": 0.6},
    }
    memories = 1  # tensors of a state: h, and perhaps cells
    equations: ClassVar[Any]  # `_traces.Equations` of one step, to look inside

    def __init__(self, config: RecurrentConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.masks: dict[nn.Parameter, Tensor] = {}  # of weight drop, for the sequence at hand
        embedding_size = config.embedding_size or (config.hidden_size if config.tied else 64)
        self.embed = nn.Embedding(spec.input_size, embedding_size)
        self.rnn = self.build(self.embed.embedding_dim)
        self.head = Head(config.hidden_size, spec)
        if config.tied:  # and small, as Merity et al. have it: a table of unit variance makes wild guesses
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)
            self.head.tie(self.embed)
        if config.init == "unigram":
            init_unigram(self.head, spec)

    @abstractmethod
    def build(self, input_size: int) -> nn.Module:
        """The recurrent layers, for embedded tokens of `input_size` numbers."""

    @abstractmethod
    def recur(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Embedded tokens (B, T, E) and a state -> hidden vectors (B, T, D) and the next state."""

    @property
    def window(self) -> int | None:
        return None

    def start(self, rows: int) -> State:
        zeros = self.embed.weight.new_zeros(rows, self.config.layers, self.config.hidden_size)  # (B, L, D)
        return zeros if self.memories == 1 else (zeros,) * self.memories

    def features(self, tokens: Tensor, state: State) -> Features:
        x = F.dropout(self.embed(tokens), self.config.input_dropout, self.training)  # (B, T, E)
        hidden, state = self.recur(x, state)
        return Features(dropout(hidden, self.config.dropout, self.training), state)

    def carry(self, state: State) -> State:
        return map_state(Tensor.float, detach(state))  # whatever precision the next segment has

    def stepper(self, rows: int) -> Stepper:
        return CarriedStepper(self, rows) if self.embed.weight.is_cuda else super().stepper(rows)

    def row_stepper(self, rows: int) -> RowStepper:
        return JoinedRows(self, rows)

    @property
    def all_weights(self) -> Any:
        """Of each layer W, U and their biases, as PyTorch's fused layers order them."""
        return self.rnn.all_weights

    def traces(self, tokens: Tensor) -> dict[str, Tensor]:
        return _traces.trace(type(self).equations, self.all_weights, self.embed(tokens))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        if source is not None:
            raise SettingsError(
                f"{type(self).__name__} reads a text from its beginning and no other before; leave --source out"
            )
        embedded = self.embed(tokens)
        return named_layers([embedded, *self.layer_vectors(embedded)])

    def layer_vectors(self, x: Tensor) -> Iterable[Tensor]:
        """What each layer hands on, (B, T, D), of embedded tokens (B, T, E) at the beginning of a text."""
        hidden: Tensor = _traces.trace(type(self).equations, self.all_weights, x)["hidden"]
        return hidden

    def dropped(self, module: nn.Module, state: State) -> dict[str, Tensor]:
        """The module's recurrent weights, some of them zero when weight drop is on; else nothing to replace.

        A `state` that gradients flow through is of the same sequence, fed token by token: the mask stays.
        """
        if not (self.training and self.config.weight_drop):
            return {}
        weights = {name: weight for name, weight in module.named_parameters() if "weight_hh" in name}
        h = state[0] if isinstance(state, tuple) else state
        if not h.requires_grad:
            self.masks |= {w: F.dropout(torch.ones_like(w), self.config.weight_drop) for w in weights.values()}
        return {name: weight * self.masks[weight] for name, weight in weights.items()}


class Stacked(Recurrent):
    """A recurrent model that is one of PyTorch's fused layers: all time steps and layers in one call."""

    kind: ClassVar[type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]]
    rnn: nn.RNNBase

    def build(self, input_size: int) -> nn.Module:
        c = self.config
        between = c.dropout if c.layers > 1 else 0.0
        return self.kind(input_size, c.hidden_size, c.layers, dropout=between, batch_first=True)

    def recur(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return run(self.rnn, x, state, self.dropped(self.rnn, state))

    def layer_vectors(self, x: Tensor) -> Iterable[Tensor]:
        return run_each(self.rnn, x)

    def parts(self) -> list[Part]:
        return fused_parts((f"layer {n + 1}" for n in range(self.config.layers)), self.rnn)


@dataclass(frozen=True)
class LSTMConfig(RecurrentConfig):
    forget_bias: Annotated[float, Arg("added to the forget gates' initial bias", min=-10, max=10)] = 1.0


@torch.no_grad()
def raise_forget_bias(module: nn.Module, amount: float) -> None:
    """Add `amount` to the forget gates' biases: remember by default (Gers et al. 2000; Jozefowicz et al. 2015)."""
    for name, bias in module.named_parameters():
        if "bias_ih" in name:
            bias.chunk(4)[1].add_(amount)  # PyTorch's gate order: input, forget, cell, output
