"""ELMo, two stacks of LSTM layers that read a text from both ends (Peters et al. 2018, arXiv:1802.05365).

One stack guesses each next token, the other, which reads the text turned around, each one before; they share the
embedding and the softmax (section 3.1). From the second layer on a layer's input is added to its output (section 3.4).
A token has a vector of each layer, both directions side by side; that of layer 0 is its embedding, twice (section 3.2).

Where we differ: tokens are those of the tokenizer, with an embedding of the layers' width, and no characters are read
by convolutions; states have the layers' width, too, and are not projected to a smaller one; cells are not clipped; the
softmax is over all tokens, and a fresh model guesses by token frequency. Dropout is on the input of each layer and on
the output, as in the authors' own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._inside import fused_parts
from charlm.archs._recurrent import raise_forget_bias
from charlm.archs._way import Way
from charlm.config import Arg, DataSpec, Settings
from charlm.inspection import Part
from charlm.model import Head, Init, LanguageModel, TwoWay, init_unigram

WAYS = ("onwards", "backwards")


class Elmo(TwoWay):
    """Its layers are pairs, one of each direction."""

    recipes = {"labels": {"lr": 2e-3}, "text on cuda": {"hidden_size": 512, "lr": 2e-3}}

    @dataclass(frozen=True)
    class Config(Settings):
        layers: Annotated[int, Arg("stacked recurrent layers of each direction", min=1, max=64)] = 2
        hidden_size: Annotated[int, Arg("units per layer and direction, and the embedding's", min=1, max=65536)] = 256
        dropout: Annotated[float, Arg("on the input of each layer and on the output", min=0, max=0.95)] = 0.1
        forget_bias: Annotated[float, Arg("added to the forget gates' initial bias", min=-10, max=10)] = 1.0
        init: Init = "unigram"

    config: Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size = config.hidden_size
        self.embed = nn.Embedding(spec.input_size, size)
        self.layers: Any = nn.ModuleList(
            nn.ModuleDict({way: nn.LSTM(size, size, batch_first=True) for way in WAYS}) for _ in range(config.layers)
        )
        raise_forget_bias(self.layers, config.forget_bias)
        self.head = SharedHead(size, spec)
        if config.init == "unigram":
            init_unigram(self.head, spec)

    @property
    def window(self) -> None:
        return None

    def ways(self) -> tuple[LanguageModel, LanguageModel]:
        onwards, backwards = (Way(self, self.embed, [pair[way] for pair in self.layers], self.head) for way in WAYS)
        return onwards, backwards

    def parts(self) -> list[Part]:
        pairs = enumerate(self.layers, 1)
        return [part for n, pair in pairs for way in WAYS for part in fused_parts([f"layer {n} {way}"], pair[way])]


class SharedHead(Head):
    """Vectors of one direction (..., D), or of both side by side (..., 2 D), whose logits are then added: (..., V)."""

    def forward(self, x: Tensor) -> Tensor:
        said = F.linear(x.reshape(*x.shape[:-1], -1, self.in_features), self.output_weight).sum(-2)
        return said if self.bias is None else said + self.bias
