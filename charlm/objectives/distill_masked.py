"""Guess hidden tokens as a trained run does: distillation, which `--objective distill` becomes by such a teacher.

Sanh et al. 2019, arXiv:1910.01108 (DistilBERT); `_taught.py` has the loss. Teacher and student are fed the same row
with the same tokens hidden, in the way of the teacher's run (`--mask`, `--next-sentence`), and are compared where a
token was chosen to be guessed. Where we differ: the authors' code does so only if it is asked to, and else compares
them at every place of a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from charlm.model import Output, State
from charlm.objectives._base import Batch
from charlm.objectives._taught import Taught
from charlm.objectives.masked import Masked


@dataclass(frozen=True)
class DistillMasked(Taught, Masked):
    def guess(self, network: Any, batch: Batch, state: State) -> Output:
        return self.read(network, batch, state)
