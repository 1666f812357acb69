"""A network that answers a whole text with a class: a body of any architecture, and a head of classes on top.

What the head reads is made of the body's vectors: the last one, at the newline that ends the text (Radford et al. 2018,
"Improving Language Understanding by Generative Pre-Training", section 3.2), their mean, or the last, the largest and
the mean of each number side by side, before one hidden layer (concat pooling; Howard & Ruder 2018, arXiv:1801.06146,
section 3.3). Published are ReLU and batch normalization; GELU stands for both, which lets gradients pass where ReLU has
none: without a normalization all of its units can be zero for every text, and then stay so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from charlm.inspection import Part
from charlm.model import PAD, Encoder, LanguageModel, Network

Pool = Literal["last", "first", "mean", "concat"]
HIDDEN = 50  # units of the hidden layer after concat pooling, as published


class Answer(NamedTuple):
    logits: Tensor  # (B, K) of the classes
    guesses: Tensor | None  # (B, T, V) logits of the next token, where the body learns to guess it too
    penalty: Tensor | None  # () nats per token to be minimised too, as in `Features`


class Classifier(Network):
    """The body's own head is kept only if it goes on guessing tokens."""

    objective = "classify"

    def __init__(self, body: Network, pool: Pool, dropout: float, *, guesses: bool) -> None:
        super().__init__(body.config, body.spec)
        self.body, self.pool, self.guesses = body, pool, guesses
        width = vector_size(body)
        if not guesses:
            body.head = nn.Identity()
        drop, classes = nn.Dropout(dropout), body.spec.classes
        if pool == "concat":
            hidden = nn.Linear(3 * width, HIDDEN)
            self.head = nn.Sequential(drop, hidden, nn.GELU(), nn.Linear(HIDDEN, classes))
        else:
            self.head = nn.Sequential(drop, nn.Linear(width, classes))
        nn.init.normal_(self.head[-1].weight, std=0.02)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]

    def stages(self) -> Sequence[nn.Module]:
        return [*self.body.stages(), self.head]

    def forward(self, tokens: Tensor) -> Answer:
        """tokens (B, T): texts, each begun and ended by a newline, padded on the right with PAD."""
        hidden, penalty = self.vectors(tokens)  # (B, T, D)
        logits = self.head(pooled(hidden, tokens != PAD, self.pool))  # (B, K)
        return Answer(logits, self.body.head(hidden) if self.guesses else None, penalty)  # type: ignore[operator]

    def vectors(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """The body's (B, T, D), and its penalty. From left to right no vector knows of the padding behind it."""
        if isinstance(self.body, LanguageModel):
            hidden, _, penalty = self.body.features(tokens.clamp(min=0), self.body.start(len(tokens)))
            return hidden, penalty
        assert isinstance(self.body, Encoder)
        return self.body.encode(tokens), None

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        return self.body.hidden_states(tokens, source)

    def parts(self) -> list[Part]:
        return self.body.parts()


def vector_size(body: Network) -> int:
    """D: how many numbers the body's head reads of a token."""
    return next(module.in_features for module in body.head.modules() if isinstance(module, nn.Linear))  # type: ignore[union-attr]


def pooled(hidden: Tensor, real: Tensor, pool: Pool) -> Tensor:
    """One vector per text of those at its tokens: hidden (B, T, D), real (B, T) -> (B, D), or (B, 3 D)."""
    if pool == "first":
        return hidden[:, 0]
    end = (real.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.size(2))
    last = hidden.gather(1, end).squeeze(1)
    if pool == "last":
        return last
    hidden, real = hidden.float(), real[..., None]
    mean = hidden.masked_fill(~real, 0).sum(1) / real.sum(1)
    if pool == "mean":
        return mean
    return torch.cat([last, hidden.masked_fill(~real, -torch.inf).amax(1), mean], 1)
