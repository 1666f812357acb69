"""Guess each token of a text from those before it.

Teacher forcing (Williams & Zipser 1989, doi:10.1162/neco.1989.1.2.270), and what a model remembers is carried from one
batch to the next: truncated backpropagation through time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charlm.config import DataSpec
from charlm.model import EncoderDecoder, LanguageModel, Network, State
from charlm.objectives._base import Arrays, Batch
from charlm.objectives._guess import Guessing


@dataclass(frozen=True)
class Causal(Guessing):
    needs = LanguageModel

    @classmethod
    def suits(cls, network: type[Network]) -> bool:
        return super().suits(network) and not issubclass(network, EncoderDecoder)  # whose encoder would have no work

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:  # noqa: ARG002
        (windows,) = rows
        return Batch(windows[:, :-1].clamp(min=0), windows[:, 1:])  # what is fed after a row's end does not count

    def start(self, network: LanguageModel, rows: int) -> State:
        return network.start(rows)
