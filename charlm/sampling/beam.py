"""Beam search: several lines are written at once for each source, and the best of them are kept.

Wu et al. 2016, arXiv:1609.08144, section 7, without coverage. For a line Y of |Y| tokens, its newline included:

    score = log P(Y | source) / lp(|Y|)        lp(n) = ((5 + n) / 6) ^ alpha

alpha is the length penalty: at 0 the likeliest line is the best, and the more of it, the longer the best may be.

A beam may lose the greedy line on its way and end with worse ones. Here it is always among those to choose from.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.model import LanguageModel
from charlm.sampling.lines import Hypothesis, select, write_lines
from charlm.sampling.settings import BeamSettings


class Kept(NamedTuple):
    """N lines for each of A sentences, the best first; where there are fewer, the rest has -inf."""

    nats: Tensor  # (A, N) log-probabilities
    ids: Tensor  # (A, N, T) the newline that is fed first, then what is written; after its end, newlines

    def take(self, places: Tensor) -> Kept:
        """Those at `places` (A, M)."""
        sentence = torch.arange(len(places), device=places.device)[:, None]
        return Kept(self.nats[sentence, places], self.ids[sentence, places])

    def only(self, some: Tensor) -> Kept:
        """Nothing but `some` (A, N) of them, in their places."""
        return self._replace(nats=self.nats.masked_fill(~some, -torch.inf))

    def hypotheses(self, newline: int) -> list[list[Hypothesis]]:
        return [
            [Hypothesis.of(ids, nats, newline) for ids, nats in zip(*lines, strict=True) if nats > -torch.inf]
            for lines in zip(self.ids[..., 1:].tolist(), self.nats.tolist(), strict=True)
        ]


class Search(NamedTuple):
    """What is looked for, and how widely."""

    newline: int  # the token that ends a line
    limit: int  # tokens that a line may have, newline included; 1 or more
    beams: int  # lines of a sentence that are written side by side
    length_penalty: float = BeamSettings.length_penalty  # alpha
    n_best: int = 1  # lines wanted of each sentence, at most `beams`


def beam_search(model: LanguageModel, source: Tensor, search: Search) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses for each row of `source` (B, S), right-padded with PAD, the best first.

    They are the best of what a beam finds and of the greedy line, so none is worse than that. What was cut off comes
    after everything finished. There are fewer than `n_best` only where fewer lines are possible.
    """
    lines_of = by_beam(model, source, search)
    if search.beams == 1:
        return lines_of  # it is the greedy line

    def rank(line: Hypothesis) -> tuple[bool, float]:
        return not line.finished, -line.log_probability / lp(len(line.ids) + line.finished, search.length_penalty)

    greedy = write_lines(model, source, lambda logits: logits.argmax(-1), newline=search.newline, limit=search.limit)
    for lines, line in zip(lines_of, greedy, strict=True):
        if all((line.ids, line.finished) != (other.ids, other.finished) for other in lines):
            lines[:] = sorted([*lines, line], key=rank)[: search.n_best]
    return lines_of


@torch.inference_mode()
def by_beam(model: LanguageModel, source: Tensor, search: Search) -> list[list[Hypothesis]]:
    """The lines of each row that a beam alone ends with.

    Each step looks at the 2 x `beams` likeliest continuations of a sentence. Those among the first `beams` that end
    with a newline are finished; of all, the first `beams` that do not end go on. A sentence is done when

    - none that goes on can beat its `n_best` finished ones: log P only falls, so no score exceeds log P / lp(limit);
    - or `beams` are finished, and none that goes on beats the `n_best` of them as it stands, by log P / lp(|Y|);
    - or `limit` tokens are written, newline included. What is cut off there comes after everything finished.

    The second makes one beam the same as greedy decoding. Of equals, the one that began better comes first, then the
    one that torch.topk finds first.
    """
    model.eval()
    newline, limit, beams, length_penalty, n_best = search
    state, count, device = model.read(source), len(source), source.device
    forgiven = lp(torch.arange(limit + 2, device=device), length_penalty)
    best_of: list[list[Hypothesis]] = [[] for _ in range(count)]
    sentences = torch.arange(count, device=device)  # (A,) those that are not done
    ended = torch.zeros_like(sentences)  # (A,) how many lines of each are finished
    going = Kept(torch.zeros(count, 1, device=device), source.new_full((count, 1, 1), newline))
    best = Kept(torch.full((count, n_best), -torch.inf, device=device), going.ids.expand(count, n_best, 1))
    for length in range(1, limit + 1):
        logits, state = model.step(going.ids[..., -1].flatten(), state)
        grown, parents = grow(going, logits.float(), 2 * beams)  # (A, K) each
        ends = grown.ids[..., -1] == newline
        new = grown.only(ends & (torch.arange(ends.size(1), device=device) < beams))
        ended = ended + new.nats.isfinite().sum(1)
        best, worst = better(best, new, forgiven, newline)
        unfinished = grown.only(~ends)
        places = largest(unfinished.nats, beams)  # (A, N)
        going, rows = unfinished.take(places), parents.gather(1, places)
        reachable = going.nats[:, 0] / torch.where(ended >= beams, forgiven[length], forgiven[limit])
        done = (reachable <= worst) | (length == limit)
        over = done.nonzero()[:, 0]  # the one wait for the device
        if len(over):
            whole, cut = (kept.hypotheses(newline) for kept in select((best, going), over))
            for sentence, *lines in zip(sentences[over].tolist(), whole, cut, strict=True):
                best_of[sentence] = list(chain(*lines))[:n_best]
            if len(over) == len(done):
                break
            left = (~done).nonzero()[:, 0]
            sentences, ended, going, best, rows = select((sentences, ended, going, best, rows), left)
        state = select(state, rows.flatten())
    return best_of


def lp(tokens: Any, length_penalty: float) -> Any:
    """By what log P is divided; of a number or a tensor."""
    return ((5 + tokens) / 6) ** length_penalty


def grow(going: Kept, logits: Tensor, most: int) -> tuple[Kept, Tensor]:
    """The `most` likeliest lines of one token more, and which row of the logits (A N, V) each comes from, (A, most)."""
    sentences, lines = going.nats.shape
    likely, tokens = logits.topk(min(most, logits.size(1)))  # (A N, C)
    nats = (going.nats.view(-1, 1) + (likely - logits.logsumexp(1, keepdim=True))).view(sentences, -1)  # (A, N C)
    places = largest(nats, most)
    parents = places // likely.size(1)
    token = tokens.view(sentences, -1).gather(1, places)
    ids = torch.cat([going.take(parents).ids, token[..., None]], -1)
    return Kept(nats.gather(1, places), ids), parents + lines * torch.arange(sentences, device=places.device)[:, None]


def better(best: Kept, new: Kept, forgiven: Tensor, newline: int) -> tuple[Kept, Tensor]:
    """The best lines of both, as many as there were in `best`, and the score of the last of them, (A,)."""
    longer = F.pad(best.ids, (0, 1), value=newline)
    both = Kept(torch.cat([best.nats, new.nats], 1), torch.cat([longer, new.ids], 1))
    scores = both.nats / forgiven[(both.ids[..., 1:] != newline).sum(-1) + 1]
    places = largest(scores, best.nats.size(1))
    return both.take(places), scores.gather(1, places)[:, -1]


def largest(scores: Tensor, many: int) -> Tensor:
    """Where the `many` largest of scores (A, N) stand, in their order; equals in the order they had."""
    return scores.sort(descending=True, stable=True).indices[:, :many]
