"""A network that says of each token whether it was replaced, and the smaller one that replaces tokens.

Clark et al. 2020, arXiv:2003.10555 (ELECTRA), sections 2 and 3.2. Both have the architecture's form, and one embedding:
what it looks up, adds and normalises is the discriminator's, behind which a linear layer makes it as narrow as the
generator. The heads are those of the authors' code: of the generator a layer as wide as the embedding, a norm, and the
embedding's own weights; of the discriminator a layer and a number for each token. These start by their width, where we
differ: with a deviation of 0.02 a narrow discriminator learns nothing for a thousand steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.config import Settings
from charlm.errors import SettingsError
from charlm.inspection import Part
from charlm.model import PAD, Encoder, Head
from charlm.objectives._classifier import vector_size

EPS = 1e-12  # of the norm in the generator's head, as in the authors' code


class Detection(NamedTuple):
    guesses: Tensor  # (B, T, V) logits of the generator
    text: Tensor  # (B, T) the tokens, with its guesses in the places of hidden ones
    odds: Tensor  # (B, T) log-odds that a token of that is not the true one


class Detector(Encoder):
    """As an encoder it is its body, the discriminator."""

    objective = "replaced"

    def __init__(self, body: Encoder, generator: Encoder) -> None:
        """Both are fresh, of one architecture; the generator is given the body's embedding."""
        super().__init__(body.config, body.spec)
        self.body, self.generator, self.bf16_from = body, generator, body.bf16_from
        share_embedding(generator, body)
        body.head, self.head = nn.Identity(), DetectionHead(vector_size(body))

    def stages(self) -> Sequence[nn.Module]:
        return [*self.body.stages(), self.generator, self.head]  # type: ignore[list-item]

    def encode(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        return self.body.encode(tokens, segments)

    def odds(self, tokens: Tensor) -> Tensor:
        """(B, T) log-odds that a token of a text (B, T) is not the true one."""
        return self.head(self.encode(tokens))

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Detection:  # type: ignore[override]
        """What a step of training computes: guesses at the hidden ones of `tokens` (B, T), those that are `targets`,
        are drawn and judged."""
        guesses = self.generator(tokens)
        text = tokens if targets is None else torch.where(targets == PAD, tokens, drawn(guesses))
        return Detection(guesses, text, self.odds(text))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        return self.body.hidden_states(tokens, source)

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        return self.body.attention_weights(tokens, source)

    def parts(self) -> list[Part]:
        return self.body.parts()


def narrower(config: Settings, share: float) -> Settings:
    """The settings of a network with this share of the width, as nearly as its other settings allow, and of the heads.

    Raises `SettingsError` for a network without a width.
    """
    own = config.to_dict()
    if "hidden_size" not in own:
        raise SettingsError("--objective replaced makes a second, narrower network, and this one has no --hidden-size")
    heads = {"heads": max(1, round(share * own["heads"]))} if own.get("heads") else {}
    width: int = own["hidden_size"]
    for size in sorted(range(1, width + 1), key=lambda size: abs(size - share * width)):
        with suppress(SettingsError):
            return type(config)(**{**own, **heads, "hidden_size": size})
    return config


def share_embedding(generator: Any, body: Encoder) -> None:
    """Replace the embedding of a generator by the body's, made narrower, and its head by one that guesses with that."""
    table, own = (
        next(module for module in network.stages()[0].modules() if isinstance(module, nn.Embedding))
        for network in (body, generator)
    )
    width, narrow = table.embedding_dim, own.embedding_dim
    shared = dict(takewhile(lambda named: looks_up(named[1]), body.named_children()))
    for name, part in shared.items():
        turns = hasattr(part, "rotation") and not list(part.parameters())
        setattr(generator, name, Placed(part, getattr(generator, name)) if turns else part)
    if narrow < width:
        name, part = list(shared.items())[-1]
        setattr(generator, name, nn.Sequential(part, linear(width, narrow)))
    guess = Head(width, body.spec)
    guess.tie(table)
    guess.bias = next(module.bias for module in generator.head.modules() if isinstance(module, Head))
    generator.head = GuessHead(vector_size(generator), guess)


def looks_up(part: nn.Module) -> bool:
    """Whether a part of a network belongs to its embedding: it has no matrix but tables of vectors."""
    tables = {id(module.weight) for module in part.modules() if isinstance(module, nn.Embedding)}
    return all(p.dim() < 2 or id(p) in tables for p in part.parameters())


class Placed(nn.Module):
    """Where tokens stand: what is added to them is the body's, and how heads are turned depends on their own width."""

    def __init__(self, body: Any, own: Any) -> None:
        super().__init__()
        self.body, self.own = body, own

    def add(self, x: Tensor, places: Any) -> Tensor:
        added: Tensor = self.body.add(x, places)
        return added

    def rotation(self, places: Any) -> Tensor | None:
        turned: Tensor | None = self.own.rotation(places)
        return turned


class GuessHead(nn.Module):
    """What stands in a hidden place: vectors (..., D) -> logits (..., V)."""

    def __init__(self, size: int, guess: Head) -> None:
        super().__init__()
        self.dense, self.norm, self.guess = linear(size, guess.in_features), nn.LayerNorm(guess.in_features, EPS), guess

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.guess(self.norm(F.gelu(self.dense(x))))
        return logits


class DetectionHead(nn.Module):
    """Vectors (..., D) -> log-odds (...) that a token is not the true one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.dense, self.answer = linear(size, size, size**-0.5), linear(size, 1, size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        odds: Tensor = self.answer(F.gelu(self.dense(x))).squeeze(-1)
        return odds


def linear(size: int, out: int, std: float = 0.02) -> nn.Linear:
    """A fresh layer, by default as the authors' code begins."""
    layer = nn.Linear(size, out)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def drawn(logits: Tensor) -> Tensor:
    """A token (B, T) for each of the logits (B, T, V), by their shares: the largest sum with Gumbel noise.

    The noise is the logarithm of one over an exponential draw. Nothing is learnt through it, and nothing waits.
    """
    noise = torch.empty_like(logits, dtype=torch.float).exponential_().log()
    return (logits.float() - noise).argmax(-1)
