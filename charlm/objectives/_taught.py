"""Learning the guesses of a trained run beside the truth: distillation.

Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2: a teacher's shares of all tokens, softened by a temperature,
say more than the one token that is true. Sanh et al. 2019, arXiv:1910.01108, distil language models so, token by token.
Where we differ from the latter: the vectors inside the two networks are not compared, so they may have any width.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.config import Arg
from charlm.errors import SettingsError
from charlm.model import PAD, Network, Output, State
from charlm.objectives._base import Batch, Loss, Objective


@dataclass(frozen=True)
class Taught(Objective):
    """The loss is (1 - a) H(true) + a T² H(soft), both cross-entropies in nats over the same places, with a the
    `soft_share` and T the `softness`. Scores and the training loss that is reported are those of the true text, as of
    the objective of the teacher, which stands behind this class among the bases of another.

    The teacher is no setting: whoever trains opens the run and hands its network over (`taught_by`).
    """

    teacher: Annotated[str | None, Arg("run whose guesses are learnt; its tokenizer is taken, too")] = None
    softness: Annotated[float, Arg("temperature of both guesses when they are compared", min=0.1, max=100)] = 2.0
    soft_share: Annotated[float, Arg("weight of the teacher's guesses, the true text has the rest", min=0, max=1)] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teacher:
            raise SettingsError(
                f"--objective {self.name()} learns from a run: name it with --teacher RUN", field="teacher"
            )

    @abstractmethod
    def guess(self, network: Any, batch: Batch, state: State) -> Output:
        """What a network guesses where it is shown the true text."""

    def carried(self, network: Any, out: Output) -> State:  # noqa: ARG002
        """What a network remembers after a batch. Default: nothing."""
        return ()

    def taught_by(self, network: Network) -> Any:
        """The same with a teacher's network, which must be where the student's is."""
        taught = copy.copy(self)
        taught.__dict__["network"] = network.eval().requires_grad_(False)
        return taught

    @property
    def teaching(self) -> Network:
        network = self.__dict__.get("network")
        if network is None:
            raise SettingsError(
                f"--objective {self.name()} is for charlm train; what it made can be compared: charlm compare RUN RUN"
            )
        assert isinstance(network, Network)
        return network

    def start(self, network: Any, rows: int) -> State:
        """What the student remembers, and what its teacher does."""
        return super().start(network, rows), super().start(self.teaching, rows)

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        own, teachers = state
        learnt: Any = self  # whose class has the teacher's objective as a base
        out: Output = learnt.read(network, batch, own)
        with torch.no_grad():
            guess = self.guess(self.teaching, batch, teachers)
            carried = self.carried(self.teaching, guess)
        loss: Loss = learnt.cost(network, batch, out)
        soft = soft_nats(out.logits, guess.logits, batch.targets, self.softness)
        pull = self.soft_share * (self.softness**2 * soft - loss.nats)
        penalty = pull if loss.penalty is None else loss.penalty + pull
        return Loss(loss.nats, (loss.state, carried), penalty)


def soft_nats(logits: Tensor, teachers: Tensor, targets: Tensor, softness: float) -> Tensor:
    """Cross-entropy in nats of a student's guess with its teacher's, both logits (B, T, V) over `softness`, summed over
    the scored targets (B, T): ()."""
    shares = (teachers.float() / softness).softmax(-1)
    nats = F.cross_entropy((logits.float() / softness).mT, shares.mT, reduction="none")  # (B, T)
    return nats.masked_fill(targets == PAD, 0.0).sum()
