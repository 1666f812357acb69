"""A network that answers a whole text with a class: a body of any architecture, and a head of classes on top.

What the head reads is made of the body's vectors: the last one, at the newline that ends the text (Radford et al. 2018,
"Improving Language Understanding by Generative Pre-Training", section 3.2), their mean, or the last, the largest and
the mean of each number side by side, before one hidden layer (concat pooling; Howard & Ruder 2018, arXiv:1801.06146,
section 3.3). Published are ReLU and batch normalization; GELU stands for both, which lets gradients pass where ReLU has
none: without a normalization all of its units can be zero for every text, and then stay so. Of a body that is frozen
the head reads a learned mix of all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from charlm.inspection import Part
from charlm.model import PAD, Encoder, LanguageModel, Network, TwoWay

Pool = Literal["last", "first", "mean", "concat"]
HIDDEN = 50  # units of the hidden layer after concat pooling, as published


class Answer(NamedTuple):
    logits: Tensor  # (B, K) of the classes
    guesses: Tensor | None  # (B, T, V) logits of the next token, where the body learns to guess it too
    penalty: Tensor | None  # () nats per token to be minimised too, as in `Features`


class Mix(nn.Module):
    """Layers' vectors as one: gamma * sum of s_k h_k, shares s of a softmax, at first all alike, and gamma 1 (Peters et
    al. 2018, arXiv:1802.05365, equation 1)."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the layers."""
        super().__init__()
        self.names = tuple(names)
        self.weights, self.scale = nn.Parameter(torch.zeros(len(names))), nn.Parameter(torch.ones(1))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """(..., D) each -> (..., D)"""
        shares = self.weights.softmax(0)
        return self.scale * torch.stack([share * x for share, x in zip(shares, layers, strict=True)]).sum(0)

    def figures(self) -> dict[str, float]:
        """The share of each layer, and the scale."""
        shares = dict(zip(self.names, self.weights.softmax(0).tolist(), strict=True)) | {"scale": self.scale.item()}
        return {f"mix_{name.replace(' ', '_')}": value for name, value in shares.items()}


class Classifier(Network):
    """The body's own head is kept only if it goes on guessing tokens. A body that is `frozen` never learns: the head
    reads a mix of its layers, which does."""

    objective = "classify"

    def __init__(self, body: Network, pool: Pool, dropout: float, *, guesses: bool, frozen: bool = False) -> None:
        super().__init__(body.config, body.spec)
        self.body, self.pool, self.guesses = body.eval(), pool, guesses
        self.mix = Mix([*self.layers(one_token(body))]) if frozen else None
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
        self.train()

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.mix is not None:
            self.body.eval()
        return self

    def stages(self) -> Sequence[nn.Module]:
        return [*self.body.stages(), *([] if self.mix is None else [self.mix]), self.head]

    def forward(self, tokens: Tensor) -> Answer:
        """tokens (B, T): texts, each begun and ended by a newline, padded on the right with PAD."""
        hidden, penalty = self.vectors(tokens)  # (B, T, D)
        two_way = isinstance(self.body, TwoWay)
        logits = self.head(pooled(hidden, tokens != PAD, self.pool, two_way=two_way))  # (B, K)
        return Answer(logits, self.body.head(hidden) if self.guesses else None, penalty)  # type: ignore[operator]

    def vectors(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the head reads, (B, T, D), and the body's penalty."""
        if self.mix is not None:
            with torch.no_grad():
                layers = list(self.layers(tokens).values())
            return self.mix(layers), None
        return vectors_of(self.body, tokens)

    def layers(self, tokens: Tensor) -> dict[str, Tensor]:
        """The body's hidden states, (B, T, D) each, of texts that may be padded."""
        return self.body.hidden_states(tokens if isinstance(self.body, Encoder) else tokens.clamp(min=0))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        return self.body.hidden_states(tokens, source)

    def mixed(self, layers: Sequence[Tensor]) -> Tensor:
        return super().mixed(layers) if self.mix is None else self.mix(layers)

    def parts(self) -> list[Part]:
        return self.body.parts()


def vectors_of(body: Network, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
    """The body's (B, T, D) for texts (B, T), and its penalty. From left to right no vector knows of the padding behind
    it."""
    if isinstance(body, LanguageModel):
        hidden, _, penalty = body.features(tokens.clamp(min=0), body.start(len(tokens)))
        return hidden, penalty
    assert isinstance(body, Encoder)
    return body.encode(tokens), None


def one_token(body: Network) -> Tensor:
    """The shortest text, to see what a body makes of one."""
    return torch.zeros(1, 1, dtype=torch.long, device=next(body.parameters()).device)


@torch.no_grad()
def vector_size(body: Network) -> int:
    """D: how many numbers a vector of the body has."""
    training = body.training
    size = vectors_of(body.eval(), one_token(body))[0].size(-1)
    body.train(training)
    return size


def pooled(hidden: Tensor, real: Tensor, pool: Pool, *, two_way: bool = False) -> Tensor:
    """One vector per text of those at its tokens: hidden (B, T, D), real (B, T) -> (B, D), or (B, 3 D).

    `two_way` vectors are of a network whose second half of them is of what reads from the end: its last is the first.
    """
    if pool == "first":
        return hidden[:, 0]
    end = (real.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.size(2))
    last = hidden.gather(1, end).squeeze(1)
    if two_way:
        last = torch.cat([last.chunk(2, 1)[0], hidden[:, 0].chunk(2, 1)[1]], 1)
    if pool == "last":
        return last
    hidden, real = hidden.float(), real[..., None]
    mean = hidden.masked_fill(~real, 0).sum(1) / real.sum(1)
    if pool == "mean":
        return mean
    return torch.cat([last, hidden.masked_fill(~real, -torch.inf).amax(1), mean], 1)
