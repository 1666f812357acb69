"""Guess some tokens of a text one after the other, in an order that is drawn anew each time.

Permutation language modelling with partial prediction (Yang et al. 2019, arXiv:1906.08237, sections 2.2 and 2.3). A
sixth of the tokens are guessed (K = 6), in spans of one to five, n with a probability in proportion to 1/n; a span
stands anywhere among six times as many tokens. All others are given from the start. A guess knows these and the tokens
that were guessed before it, on whichever side they stand, so no symbol is fed in the place of a token, and the guesses
at several tokens are those of one joint distribution.

Where we differ: the order is drawn over a whole row and not within its halves, as nothing is remembered of a row; and
spans are of tokens, not of whole words.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from charlm.config import DataSpec
from charlm.evaluate import rows_at_once
from charlm.model import PAD, AnyOrder, State
from charlm.objectives._base import Arrays, Batch, Loss, Objective, guessed_score, summed_nats, windows
from charlm.progress import Progress
from charlm.score import Measure, Score

K = 6  # of so many tokens one is guessed
LENGTHS = 1 / torch.arange(1.0, 6.0)  # of spans of 1 to 5 tokens: one over their number
SEED = 0  # of places and order in what is held out: the same at each validation, and in each run


@dataclass(frozen=True)
class Permute(Objective):
    needs = AnyOrder
    measure: ClassVar[Measure] = Measure("nats_per_guessed_token", "nats/guessed token", across=False)
    command = "fill"

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:  # noqa: ARG002
        text = rows[0][:, :-1]  # the last token is the first of the next window
        places = drawn_places(len(text), text.size(1), rng)
        return Batch(text, text.gather(1, places), places=places)

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        return Loss(summed_nats(network(batch.tokens, places=batch.places), batch.targets), state)

    @torch.inference_mode()
    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """Nats per guessed token. Which are guessed, and in which order, depends on the text's length alone, whatever
        rows it is read in: so runs compare."""
        network.eval()
        spec, device, nats = network.spec, next(network.parameters()).device, 0.0
        ids, length = torch.from_numpy(part.ids.astype("int64"))[None], spec.lengths.training  # (1, N)
        text = windows(ids, length)  # (R, S)
        rows = by_row(drawn_places(1, ids.size(1), torch.Generator().manual_seed(SEED))[0], length, len(text))
        targets = torch.where(rows == PAD, PAD, text.gather(1, rows.clamp(min=0)))
        at_once = rows_at_once(length, spec.vocab_size)
        for start in range(0, len(text), at_once):
            some = slice(start, start + at_once)
            batch = Batch(text[some].to(device), targets[some].to(device), places=rows[some].to(device))
            nats += float(self.loss(network, batch, ()).nats)
            yield Progress("scoring", min((start + at_once) * length, ids.size(1)), ids.size(1))
        return guessed_score(nats, targets, spec, length, self.measure)


def drawn_places(rows: int, size: int, rng: torch.Generator) -> Tensor:
    """(B, M) the places that are guessed of each row of `size` tokens, in their order; M is always the same.

    Each span is drawn in a stretch of K times its tokens. The stretches stand side by side from anywhere in the row on,
    which is taken as a ring; the last is cut off where M tokens are reached.
    """
    each, count = min(K, size), max(1, size // K)
    lengths = torch.multinomial(LENGTHS, rows * count, replacement=True, generator=rng).view(rows, count) + 1
    ends = lengths.cumsum(1).clamp(max=count)  # (B, M) tokens in all spans so far
    begins = F.pad(ends[:, :-1], (1, 0))
    left = ((each - 1) * (ends - begins) + 1) * torch.rand(rows, count, generator=rng)  # of a span, in its stretch
    start = size * torch.rand(rows, 1, generator=rng)
    token = torch.arange(count).expand(rows, -1).contiguous()
    span = torch.searchsorted(ends, token, right=True)  # which each token is in
    begin = begins.gather(1, span)
    places = (start.long() + each * begin + left.long().gather(1, span) + token - begin) % size
    return places.gather(1, torch.rand(rows, count, generator=rng).argsort(1))


def by_row(places: Tensor, length: int, rows: int) -> Tensor:
    """(R, M) the places (N,) of a text within each of its rows of so many tokens, in their order, padded with PAD."""
    row = places // length
    order = row.argsort(stable=True)
    parts = torch.split((places % length)[order], row.bincount(minlength=rows).tolist())
    return pad_sequence(list(parts), batch_first=True, padding_value=PAD)
