"""Guessing each next token, which all language models are trained for.

Teacher forcing (Williams & Zipser 1989): the model is fed the true text and scored on its guess for each next token.
Scheduled sampling (Bengio et al. 2015, arXiv:1506.03099, section 2.4) feeds it its own guess now and then.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from charlm.config import Arg
from charlm.evaluate import evaluate
from charlm.model import PAD, Features, Output, State, joined
from charlm.objectives._base import Batch, Loss, Objective, summed_nats
from charlm.progress import Progress
from charlm.score import Score


@dataclass(frozen=True)
class Guessing(Objective):
    """From the true text so far or, with `teacher_forcing` below 1, from a text with some guesses of its own."""

    label_smoothing: Annotated[
        float, Arg("share of each target's weight that all tokens get alike", min=0, max=0.9)
    ] = 0.0
    teacher_forcing: Annotated[
        float, Arg("chance that the model is fed the true token and not its own guess", min=0, max=1)
    ] = 1.0

    @property
    def by_token(self) -> bool:
        return self.teacher_forcing < 1

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        return self.cost(network, batch, self.read(network, batch, state))

    def read(self, network: Any, batch: Batch, state: State) -> Output:
        """What a network guesses."""
        if not self.by_token:
            out: Output = network(batch.tokens, state, batch.source)
            return out
        state = state if batch.source is None else network.read(batch.source)
        return scheduled_sampling(network, batch.tokens, state, self.teacher_forcing)

    def cost(self, network: Any, batch: Batch, out: Output) -> Loss:
        """What that costs, where the true text is what should have been guessed."""
        nats = summed_nats(out.logits, batch.targets, self.label_smoothing)
        penalty = None if out.penalty is None else out.penalty * (batch.targets != PAD).sum()
        return Loss(nats, network.carry(out.state) if batch.source is None else (), penalty)

    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """Bits per byte of a text, each byte given all that stands before it."""
        return (yield from evaluate(network, part.ids, part.before, chars=part.chars, bytes=part.bytes))


def scheduled_sampling(network: Any, tokens: Tensor, state: State, teacher_forcing: float) -> Output:
    """Each token (B, T) after the first is the true one with probability `teacher_forcing`, else a guess.

    It is fed token by token, which torch.compile has no part in.
    """
    token, logits, parts = tokens[:, :1], [], list[Features]()
    for t in range(tokens.size(1)):
        parts.append(network.features(token, state))
        state = parts[-1].state
        logits.append(network.head(parts[-1].hidden))
        if t + 1 < tokens.size(1):
            share = logits[-1][:, -1].detach().float().softmax(-1)  # (B, V)
            # Drawn so, and not by `multinomial`: to that, a share that is no number is the end of a GPU's process.
            guess = (share / torch.empty_like(share).exponential_()).argmax(-1, keepdim=True)  # (B, 1)
            true = torch.rand_like(guess, dtype=torch.float) < teacher_forcing
            token = torch.where(true, tokens[:, t + 1 : t + 2], guess)
    return Output(torch.cat(logits, 1), state, joined(parts).penalty)
