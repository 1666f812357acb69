"""Beam search: for each source several hypotheses are extended side by side, and the best finished ones are given.

Wu et al. 2016, arXiv:1609.08144, section 7, without coverage. A hypothesis Y of |Y| tokens, its newline (EOS) included,
has the score

    log P(Y | source) / lp(|Y|)        lp(n) = ((5 + n) / 6) ^ alpha

alpha is the length penalty: at 0 the likeliest hypothesis is the best, and a higher one favours longer hypotheses.

A beam may drop the greedy hypothesis on its way and end with worse ones, so that is always added to its results.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.model import LanguageModel
from charlm.sampling.lines import Hypothesis, select_rows, write_lines
from charlm.sampling.settings import BeamSettings


class Beam(NamedTuple):
    """N hypotheses for each of A sources, the best first; an empty slot has the log-probability -inf."""

    log_probability: Tensor  # (A, N) nats
    ids: Tensor  # (A, N, T) the newline that is fed first (BOS), then the tokens written; after their end, newlines

    def gather(self, index: Tensor) -> Beam:
        """The hypotheses at `index` (A, M) of each source."""
        source = torch.arange(len(index), device=index.device)[:, None]
        return Beam(self.log_probability[source, index], self.ids[source, index])

    def masked(self, mask: Tensor) -> Beam:
        """The hypotheses where `mask` (A, N) is true; the other slots are empty."""
        return self._replace(log_probability=self.log_probability.masked_fill(~mask, -torch.inf))

    def hypotheses(self, newline: int) -> list[list[Hypothesis]]:
        """Those of each source, without empty slots."""
        return [
            [Hypothesis.of(ids, nats, newline) for ids, nats in zip(*slots, strict=True) if nats > -torch.inf]
            for slots in zip(self.ids[..., 1:].tolist(), self.log_probability.tolist(), strict=True)
        ]


class Search(NamedTuple):
    """Parameters of a beam search."""

    newline: int  # the id that ends a hypothesis
    limit: int  # most tokens of a hypothesis, its newline included; 1 or more
    beams: int  # hypotheses of a source that are extended side by side
    length_penalty: float = BeamSettings.length_penalty  # alpha
    n_best: int = 1  # hypotheses wanted for each source, at most `beams`


def beam_search(model: LanguageModel, source: Tensor, search: Search) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses for each row of `source` (B, S), right-padded with PAD, the best first.

    They are the best of those that the beam ends with and of the greedy one. Unfinished ones, which were cut off at
    `limit`, come last. There are fewer than `n_best` only if fewer are possible.
    """
    results = beam_alone(model, source, search)
    if search.beams == 1:
        return results  # which are greedy already

    def rank(line: Hypothesis) -> tuple[bool, float]:
        length = len(line.ids) + line.finished
        return not line.finished, -line.log_probability / length_normalizer(length, search.length_penalty)

    greedy = write_lines(model, source, lambda logits: logits.argmax(-1), newline=search.newline, limit=search.limit)
    for lines, line in zip(results, greedy, strict=True):
        if all((line.ids, line.finished) != (other.ids, other.finished) for other in lines):
            lines[:] = sorted([*lines, line], key=rank)[: search.n_best]
    return results


@torch.inference_mode()
def beam_alone(model: LanguageModel, source: Tensor, search: Search) -> list[list[Hypothesis]]:
    """`beam_search` without the greedy hypothesis.

    Each step extends the active hypotheses of a source to the 2 x `beams` likeliest candidates. Those among the first
    `beams` candidates that end with a newline are finished; the first `beams` that do not end with one are the next
    active ones. A source is done when

    - no active hypothesis can still beat its `n_best` finished ones: log P only falls, so no score can exceed
      log P / lp(limit);
    - or `beams` hypotheses are finished, and no active one beats the `n_best` of them by its score so far;
    - or `limit` tokens are written, newline included. Those cut off there rank after all finished ones.

    By the second rule one beam is greedy decoding. Of equally likely candidates the one with the likelier parent comes
    first, and of those with one parent the one that torch.topk gives first.
    """
    model.eval()
    newline, limit, beams, length_penalty, n_best = search
    state, count, device = model.read(source), len(source), source.device
    normalizers = length_normalizer(torch.arange(limit + 2, device=device), length_penalty)  # (limit + 2,)
    results: list[list[Hypothesis]] = [[] for _ in range(count)]
    numbers = torch.arange(count, device=device)  # (A,) of the sources that are not done
    finished = torch.zeros_like(numbers)  # (A,) how many hypotheses of each source are finished
    active = Beam(torch.zeros(count, 1, device=device), source.new_full((count, 1, 1), newline))
    best = Beam(torch.full((count, n_best), -torch.inf, device=device), active.ids.expand(count, n_best, 1))
    for length in range(1, limit + 1):
        logits, state = model.step(active.ids[..., -1].flatten(), state)
        candidates, parents = extend(active, logits.float(), 2 * beams)  # (A, K) each
        ended = candidates.ids[..., -1] == newline
        new = candidates.masked(ended & (torch.arange(ended.size(1), device=device) < beams))
        finished = finished + new.log_probability.isfinite().sum(1)
        best, worst = merge(best, new, normalizers, newline)
        unfinished = candidates.masked(~ended)
        index = largest(unfinished.log_probability, beams)  # (A, N)
        active, rows = unfinished.gather(index), parents.gather(1, index)
        bound = active.log_probability[:, 0] / torch.where(finished >= beams, normalizers[length], normalizers[limit])
        done = (bound <= worst) | (length == limit)
        over = done.nonzero()[:, 0]  # the only synchronisation with the device in a step
        if len(over):
            whole, cut = (beam.hypotheses(newline) for beam in select_rows((best, active), over))
            for number, *lines in zip(numbers[over].tolist(), whole, cut, strict=True):
                results[number] = list(chain(*lines))[:n_best]
            if len(over) == len(done):
                break
            remaining = (~done).nonzero()[:, 0]
            numbers, finished, active, best, rows = select_rows((numbers, finished, active, best, rows), remaining)
        state = select_rows(state, rows.flatten())
    return results


def length_normalizer(tokens: Any, length_penalty: float) -> Any:
    """lp(tokens), by which a log-probability is divided; of a number or a tensor of any shape."""
    return ((5 + tokens) / 6) ** length_penalty


def extend(active: Beam, logits: Tensor, count: int) -> tuple[Beam, Tensor]:
    """The `count` likeliest hypotheses with one token more than `active`, and the rows of logits (A N, V) that they
    come from, (A, count)."""
    sources, beams = active.log_probability.shape
    top, tokens = logits.topk(min(count, logits.size(1)))  # (A N, C)
    nats = active.log_probability.view(-1, 1) + (top - logits.logsumexp(1, keepdim=True))  # (A N, C)
    nats = nats.view(sources, -1)  # (A, N C)
    index = largest(nats, count)
    parents = index // top.size(1)
    token = tokens.view(sources, -1).gather(1, index)
    ids = torch.cat([active.gather(parents).ids, token[..., None]], -1)
    return Beam(nats.gather(1, index), ids), parents + beams * torch.arange(sources, device=index.device)[:, None]


def merge(best: Beam, new: Beam, normalizers: Tensor, newline: int) -> tuple[Beam, Tensor]:
    """The N best hypotheses of `best` (A, N) and `new` by score, and the score of the last one, (A,)."""
    padded = F.pad(best.ids, (0, 1), value=newline)
    both = Beam(torch.cat([best.log_probability, new.log_probability], 1), torch.cat([padded, new.ids], 1))
    scores = both.log_probability / normalizers[(both.ids[..., 1:] != newline).sum(-1) + 1]
    index = largest(scores, best.log_probability.size(1))
    return both.gather(index), scores.gather(1, index)[:, -1]


def largest(scores: Tensor, count: int) -> Tensor:
    """The positions of the `count` largest of scores (A, N), in descending order; equal ones keep their order."""
    return scores.sort(descending=True, stable=True).indices[:, :count]
