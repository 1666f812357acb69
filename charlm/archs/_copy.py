"""A decoder that may copy a token of its source instead of guessing one.

Vinyals, Fortunato & Jaitly 2015, arXiv:1506.03134, section 2.3: attention that points at what is read. See, Liu &
Manning 2017, arXiv:1704.04368, section 2.2: a gate g mixes copying with guessing,

    P(w) = g softmax(guess)_w + (1 - g) sum of the attention at all places of the source that hold w

Where we differ: every tokenizer spells any word, so there is no extended vocabulary. Attention to what cannot be
copied, a token that the target's vocabulary lacks, counts as guessing; so does all of it where no source was read.
Coverage (section 2.3) is left out.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from charlm.config import PAD, Arg, DataSpec
from charlm.model import Head

Copy = Annotated[bool, Arg("let the decoder copy tokens of the source where its attention is")]

GUESSES = 3.0  # the gate's bias at first: a fresh model copies 5 %, so that it knows the unigram distribution
SMALLEST = torch.finfo(torch.float).tiny  # probability that has a logarithm


class CopyHead(nn.Module):
    """Wide vectors (..., D + V + 1), as `wide` makes them, to log-probabilities (..., V)."""

    twins: Tensor  # (source vocabulary,) the id that copying writes, PAD where there is none

    def __init__(self, guess: Head, seen: int, spec: DataSpec) -> None:
        """The gate sees `seen` numbers."""
        super().__init__()
        self.guess, self.gate = guess, nn.Linear(seen, 1)
        twins = np.arange(spec.output_size) if spec.source_vocab_size is None else spec.twins
        assert twins is not None, "known wherever there are two vocabularies"
        nn.init.constant_(self.gate.bias, GUESSES)
        self.register_buffer("twins", torch.tensor(twins), persistent=False)

    def copies(self, source: Tensor) -> Tensor:
        """The ids that copying tokens (B, S) of a source writes; PAD where nothing can be copied."""
        known = (source >= 0) & (source < len(self.twins))  # neither padding nor a symbol that is only fed
        return self.twins[source * known].masked_fill(~known, PAD)

    def wide(self, x: Tensor, weights: Tensor, copies: Tensor, seen: Tensor) -> Tensor:
        """Vectors x (B, T, D), the attention that each token of the vocabulary gets, and the logit of g.

        Of attention weights (B, T, S) to places that copy these ids (B, S), and of what the gate sees (B, T, N).
        """
        possible = weights * (copies != PAD)[:, None]
        places = copies.clamp(min=0)[:, None].expand_as(weights)
        copied = weights.new_zeros(*x.shape[:2], self.guess.out_features).scatter_add(2, places, possible)
        return torch.cat([x, copied, self.gate(seen)], -1)

    def forward(self, wide: Tensor) -> Tensor:
        x, copied, gate = torch.split(wide, [self.guess.in_features, self.guess.out_features, 1], -1)
        copied, gate = copied.float(), gate.float()
        copying = (-gate).sigmoid()  # 1 - g, of which no digit is lost
        impossible = (1 - copied.sum(-1, keepdim=True)).clamp(min=0)  # attention to what cannot be copied
        guesses = self.guess(x).float().softmax(-1)
        p: Tensor = (gate.sigmoid() + copying * impossible) * guesses + copying * copied
        return p.clamp(min=SMALLEST).log()
