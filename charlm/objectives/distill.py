"""Guess each token of a text as a trained run does: distillation.

Hinton, Vinyals & Dean 2015, arXiv:1503.02531; `_taught.py` has the loss. A teacher that guesses hidden tokens makes
`distill-masked` of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from charlm.model import Output, State
from charlm.objectives._base import Batch
from charlm.objectives._taught import Taught
from charlm.objectives.causal import Causal


@dataclass(frozen=True)
class Distill(Taught, Causal):
    """The teacher reads the true text, whatever `teacher_forcing` feeds its student."""

    def guess(self, network: Any, batch: Batch, state: State) -> Output:
        out: Output = network(batch.tokens, state)
        return out

    def carried(self, network: Any, out: Output) -> State:
        state: State = network.carry(out.state)
        return state
