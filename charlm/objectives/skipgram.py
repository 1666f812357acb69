"""Tell what stands near a token from what does not: skip-gram with negative sampling.

Mikolov et al. 2013, arXiv:1310.4546, section 2.2, equation 4. Each token of a text is paired with those around it, no
farther away than a number that is drawn for it, up to `window`; before that frequent tokens are left out at random
(`subsample`, section 2.3), so that windows reach farther. A pair costs

    - log sigmoid(u_near . v) - sum over K noise tokens of log sigmoid(- u_noise . v)

where noise is drawn by the counts of tokens to the power of 3/4.

As in the authors' code a token of frequency f stays with the probability (sqrt(f / t) + 1) t / f, and not sqrt(t / f)
as in equation 5. Unlike there, noise may be the near token itself, as equation 4 has it; and no pair spans two rows.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.config import Arg, DataSpec
from charlm.model import PAD, State, TokenVectors
from charlm.objectives._base import Arrays, Batch, Loss, Objective
from charlm.progress import Progress
from charlm.score import Measure, Score

POWER = 0.75  # of the counts, by which noise is drawn
PIECE = 1 << 14  # tokens of a text that are scored at once
STEP = 1024  # a batch has a multiple of so many rows, so that there are few shapes


@dataclass(frozen=True)
class Skipgram(Objective):
    window: Annotated[int, Arg("how many tokens away may be what a token is paired with", min=1, max=1000)] = 5
    negative: Annotated[int, Arg("noise tokens for each pair", min=1, max=1000)] = 5
    subsample: Annotated[
        float,
        Arg("frequency from which tokens are left out at random, the more frequent the more; 0: none", min=0, max=1),
    ] = 1e-4

    needs = TokenVectors
    measure = Measure("nats_per_pair", "nats/pair", across=False)
    command = "neighbours"

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:
        """A row per pair: tokens (P, 1 + K) are a token and its noise, targets (P, 1) what stands near it."""
        (windows,) = rows
        counts = torch.ones(spec.vocab_size) if spec.counts is None else torch.from_numpy(spec.counts)
        tokens, near = self.pairs(windows, counts, rng)
        more = -len(tokens) % STEP
        tokens, near = F.pad(tokens, (0, more)), F.pad(near, (0, more), value=PAD)
        noise = drawn(counts, (len(tokens), self.negative), rng)
        return Batch(torch.cat([tokens[:, None], noise], 1), near[:, None])

    def pairs(self, windows: Tensor, counts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(tokens (P,), what stands near each (P,)) of rows of text (B, T)."""
        known = windows.clamp(min=0)
        stays = torch.rand(windows.shape, generator=rng) < self.shares(counts)[known]
        row, place = torch.where(stays & (windows != PAD))
        tokens = windows[row, place]  # (N,) the rows that are left, one after the other
        reach = torch.randint(1, self.window + 1, tokens.shape, generator=rng)
        pairs = list[Tensor]()  # of places
        for distance in range(1, min(self.window, len(tokens) - 1) + 1):
            left = torch.arange(len(tokens) - distance)
            left = left[row[left] == row[left + distance]]
            right = left + distance
            pairs += [torch.stack(pair)[:, reach[pair[0]] >= distance] for pair in ((left, right), (right, left))]
        first, second = torch.cat(pairs, 1) if pairs else torch.zeros(2, 0, dtype=torch.long)
        return tokens[first], tokens[second]

    def shares(self, counts: Tensor) -> Tensor:
        """(V,) the probability with which each token stays."""
        if not self.subsample:
            return torch.ones(len(counts))
        rarer = self.subsample * counts.sum() / counts.clamp(min=1)  # t / f
        return rarer.sqrt() + rarer

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        token, noise = batch.tokens[:, 0], batch.tokens[:, 1:]
        odds = network(token, torch.cat([batch.targets.clamp(min=0), noise], 1)).float()  # (P, 1 + K)
        nats = -F.logsigmoid(odds[:, 0]) - F.logsigmoid(-odds[:, 1:]).sum(1)
        return Loss((nats * (batch.targets[:, 0] != PAD)).sum(), state)

    @torch.inference_mode()
    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """Nats per pair, of pairs and noise as they are drawn by default, whatever the training's options were.

        Counts are those of the part itself, so what is drawn depends on the text alone.
        """
        network.eval()
        device, rng = next(network.parameters()).device, torch.Generator().manual_seed(0)
        shown, spec = Skipgram(), network.spec
        ids = torch.from_numpy(part.ids.astype(np.int64))
        spec = spec._replace(counts=np.bincount(part.ids, minlength=spec.vocab_size))
        nats, pairs, done = 0.0, 0, 0
        for piece in torch.split(ids, PIECE):
            batch = shown.batch((piece[None],), spec, rng)
            fed = Batch(batch.tokens.to(device), batch.targets.to(device))
            nats += float(self.loss(network, fed, ()).nats)
            pairs += int((batch.targets != PAD).sum())
            done += len(piece)
            yield Progress("scoring", done, len(ids))
        mean = nats / max(pairs, 1)
        return Score(mean, mean, pairs, part.chars, part.bytes, shown.window, self.measure)


def drawn(counts: Tensor, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Tokens, by their counts (V,) to the power of 3/4."""
    ends = counts.double().pow(POWER).cumsum(0)
    places = torch.rand(shape, dtype=torch.double, generator=rng) * ends[-1]
    return torch.searchsorted(ends, places, right=True).clamp(max=len(counts) - 1)
