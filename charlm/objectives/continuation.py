"""Read the first half of a window, then guess each token of the second half from what was read and those before it.

How an encoder and decoder (Sutskever, Vinyals & Le 2014, arXiv:1409.3215) learns to go on with a running text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charlm.config import DataSpec
from charlm.model import PAD, EncoderDecoder
from charlm.objectives._base import Arrays, Batch
from charlm.objectives._guess import Guessing

SHORTER = 1 / 8  # of the batches have a shorter source, so that a short prompt and a blank page are familiar too


@dataclass(frozen=True)
class Continuation(Guessing):
    needs = EncoderDecoder

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:  # noqa: ARG002
        (windows,) = rows
        windows = windows[:, (windows != PAD).any(0)]  # at most one column is partly padding now: the last, of targets
        half = (windows.size(1) - 1) // 2
        source = windows[:, :half]
        if torch.rand((), generator=rng) < SHORTER:
            source = source[:, int(torch.randint(half + 1, (), generator=rng)) :]
        return Batch(windows[:, half:-1], windows[:, half + 1 :], source)
