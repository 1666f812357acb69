"""Hiding tokens of a text, to ask what they were: which ones, and what stands in their place.

15 % are chosen, of which 80 % become a symbol, 10 % a random token, and 10 % stay (Devlin et al. 2018,
arXiv:1810.04805, section 3.1, task 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from charlm.config import Arg, DataSpec
from charlm.model import PAD, Encoder
from charlm.objectives import _units
from charlm.objectives._base import Objective

SHARE = 0.15  # of all tokens, which are guessed
HIDDEN, CHANGED = 0.8, 0.1  # shares of these that become the symbol, and a random token
MASK = 0  # the symbol, counted from the end of the vocabulary


class Hidden(NamedTuple):
    fed: Tensor  # (B, T) tokens, of which some are hidden
    targets: Tensor  # (B, T) those that were chosen; PAD elsewhere


@dataclass(frozen=True)
class Hiding(Objective):
    """What is trained on a text with hidden tokens, and can guess these."""

    mask: Annotated[
        Literal["token", "whole-word", "phrase"],
        Arg("what is hidden as one: a token, the tokens of a word, or those of up to three words"),
    ] = "token"

    needs = Encoder
    symbols = 1
    command = "fill"

    def units(self, tokens: Tensor, spec: DataSpec, rng: torch.Generator) -> Tensor:
        """(B, T) the number, in its row, of what a token is hidden with."""
        if self.mask == "whole-word":
            return _units.words(tokens, spec.tokens)
        return _units.phrases(tokens, spec.tokens, rng) if self.mask == "phrase" else single(tokens)

    def hide(self, tokens: Tensor, spec: DataSpec, rng: torch.Generator) -> Hidden:
        """Tokens (B, T) with some of them hidden."""
        return hide(tokens, self.units(tokens, spec, rng), spec, rng)

    def at_once(self, spec: DataSpec) -> int:
        """The most tokens of a text that a network reads at once."""
        return spec.lengths.window

    def guesses(self, network: Any, tokens: Tensor) -> Tensor:
        """logits (B, S, V) for texts (B, S) with hidden tokens, S at most `at_once`."""
        logits: Tensor = network(tokens)
        return logits


def single(tokens: Tensor) -> Tensor:
    """(B, T) the number of each token in its row."""
    return torch.arange(tokens.size(1)).expand_as(tokens)


def hide(tokens: Tensor, units: Tensor, spec: DataSpec, rng: torch.Generator) -> Hidden:
    """Of tokens (B, T) a share is chosen, those with one of the `units` (B, T) of a row together."""
    text = (tokens >= 0) & (tokens < spec.vocab_size)
    draws = torch.rand(tokens.shape, generator=rng).gather(1, units).masked_fill(~text, 2.0)
    chosen = text & (draws <= draws.amin(1, keepdim=True).clamp(min=SHARE))
    fate = torch.rand(tokens.shape, generator=rng)
    others = torch.randint(spec.vocab_size, tokens.shape, generator=rng)
    fed = torch.where(chosen & (fate < HIDDEN), spec.vocab_size + MASK, tokens)
    fed = torch.where(chosen & (fate >= 1 - CHANGED), others, fed)
    return Hidden(fed, torch.where(chosen, tokens, PAD))
