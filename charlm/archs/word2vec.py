"""word2vec: two vectors for each token, and what stands near what (Mikolov et al. 2013, arXiv:1310.4546).

Section 2: a token's own vector v, and another one u for when it stands near others; u . v says how likely that is. No
layer mixes tokens, so there is no text to be read and nothing to be written: the vectors v are what it is trained for.

As in the authors' code, v starts uniform between -0.5 / D and 0.5 / D, and u at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._inside import refuse_source
from charlm.config import Arg, DataSpec, Settings
from charlm.model import Head, TokenVectors


class Word2Vec(TokenVectors):
    @dataclass(frozen=True)
    class Config(Settings):
        hidden_size: Annotated[int, Arg("numbers per vector", min=1, max=65536)] = 100

    config: Config
    recipes = {
        "text": {"tokenizer": "word", "batch_size": 4, "seq_len": 256, "lr": 1e-2, "weight_decay": 0.0},
        "text on cuda": {"hidden_size": 300},
    }

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.embed = nn.Embedding(spec.input_size, config.hidden_size)  # v
        self.head = Head(config.hidden_size, spec, bias=False)  # u
        nn.init.uniform_(self.embed.weight, -0.5 / config.hidden_size, 0.5 / config.hidden_size)
        nn.init.zeros_(self.head.weight)

    def forward(self, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        v = self.embed(tokens)
        if others is None:
            odds: Tensor = self.head(v)
            return odds
        return torch.einsum("...d,...kd->...k", v, F.embedding(others, self.head.output_weight))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        refuse_source(self, source)
        return {"embedding": self.embed(tokens)}
