"""What may stand in a gap of a text: one function per kind of run.

A model of hidden tokens (Devlin et al. 2018, arXiv:1810.04805) says it. So does one that guesses in any order (Yang et
al. 2019, arXiv:1906.08237), of several tokens as one distribution. One that guesses each next token scores the whole
text with each candidate in it: exact, and dearer. One that restores texts (Lewis et al. 2020, arXiv:1910.13461;
Raffel et al. 2020, arXiv:1910.10683) reads the text with its gaps and then scores what it would write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.errors import SettingsError
from charlm.evaluate import ROWS, rows_at_once
from charlm.model import PAD, repeated
from charlm.objectives._restoring import GAP
from charlm.writer import Writer

LONGEST = 64  # tokens of a gap
WIDTH = 16  # candidates that are kept, at least, while a gap of several tokens is filled from left to right
BEFORE = 256  # the same, where only what stands before the gap is known so far
WORK = 1 << 18  # tokens that are read, at most, to try candidates


class Blank(NamedTuple):
    """A gap in a text."""

    place: int  # of its first symbol
    symbols: int  # that stand for it
    size: int | None  # tokens; None: any number
    counted: bool  # whoever typed it gave the number


class Candidates(NamedTuple):
    """What may stand in a gap of T tokens, the likeliest first."""

    ids: Tensor  # (N, T) those with fewer tokens padded on the right with PAD
    logprobs: Tensor  # (N,) their shares' logarithms
    complete: bool  # nothing else is possible


Filler = Callable[[Writer, Tensor, list[Blank], int], Candidates]
"""(writer, ids (N,) with symbols in gaps, the gap to be filled and those behind it, how many candidates are wanted)"""


@torch.inference_mode()
def between(writer: Writer, ids: Tensor, gaps: list[Blank], width: int) -> Candidates:
    """By a model of hidden tokens, which sees what stands on both sides."""
    objective: Any = writer.objective  # it is `Hiding`
    window, place = around(ids, gaps[0], objective.at_once(writer.model.spec))

    def guesses(beginnings: Tensor) -> Tensor:
        rows = with_beginnings(window, place, beginnings)
        logits: Tensor = objective.guesses(writer.model, rows.to(writer.device))
        return logits[:, place + beginnings.size(1)]

    return beam(guesses, gaps[0].symbols, width if gaps[0].symbols > 1 else len(writer.tokenizer.tokens))


@torch.inference_mode()
def in_order(writer: Writer, ids: Tensor, gaps: list[Blank], width: int) -> Candidates:
    """By a model that guesses in any order: the tokens of the gap from left to right, and those of later gaps last, so
    that no guess knows of them."""
    window, place = around(ids, gaps[0], writer.model.spec.lengths.window)
    unknown = (window >= len(writer.tokenizer.tokens)).nonzero()[:, 0]  # from left to right, so this gap's come first
    window = window.index_fill(0, unknown, 0)  # what is fed there is never seen

    def guesses(beginnings: Tensor) -> Tensor:
        rows = with_beginnings(window, place, beginnings).to(writer.device)
        places = unknown.expand(len(rows), -1).to(writer.device)
        logits: Tensor = writer.model(rows, places=places)
        return logits[:, beginnings.size(1)]

    return beam(guesses, gaps[0].symbols, width if gaps[0].symbols > 1 else len(writer.tokenizer.tokens))


def around(ids: Tensor, gap: Blank, room: int) -> tuple[Tensor, int]:
    """What is read at once of a text (N,), with a gap in the middle where that can be, and where the gap begins in it.

    Raises `SettingsError` for a gap that is longer.
    """
    size = gap.symbols
    if size > room:
        raise SettingsError(f"a gap has {size} tokens and this run reads {room} at once; give a shorter one")
    start = max(0, min(gap.place + size // 2 - room // 2, len(ids) - room))
    return ids[start : start + room], gap.place - start


def with_beginnings(window: Tensor, place: int, beginnings: Tensor) -> Tensor:
    """(B, S) the text (S,) with each of the beginnings (B, n) of a gap in its place."""
    rows = window.repeat(len(beginnings), 1)
    rows[:, place : place + beginnings.size(1)] = beginnings
    return rows


@torch.inference_mode()
def before_and_after(writer: Writer, ids: Tensor, gaps: list[Blank], width: int) -> Candidates:
    """By a model of the next token: candidates are put in and scored together with what follows, up to the next gap.

    They are all tokens or, where these are too many to be tried, and of several tokens, the likeliest after what stands
    before the gap.
    """
    place, size = gaps[0].place, gaps[0].symbols
    model, vocabulary = writer.model, len(writer.tokenizer.tokens)
    before = torch.cat([torch.tensor([writer.tokenizer.start]), ids[:place]]).to(writer.device)
    after = ids[place + size :]
    after = after[: int((after >= vocabulary).long().cumsum(0).eq(0).sum())].to(writer.device)
    state, last = model.read(before[None, :-1]), before[-1:]
    count = max(width, WORK // (size + len(after)))
    some = beam(next_guesses(model, state, last), size, min(count, vocabulary if size == 1 else BEFORE))
    logprobs = with_text(model, state, last, some.ids, after).log_softmax(0)
    order = logprobs.argsort(descending=True)
    return Candidates(some.ids[order], logprobs[order], some.complete)


@torch.inference_mode()
def by_writing(writer: Writer, ids: Tensor, gaps: list[Blank], width: int) -> Candidates:
    """By a model that reads the text with its gaps: how likely it is to write a candidate, and behind it what follows.

    What stands before the gap is taken as written. Candidates are the likeliest beginnings of all lengths, until no
    longer one can be among the `width` best, or of the length that is wanted; the shares are of those.
    """
    objective: Any = writer.objective
    model, spec, size = writer.model, writer.model.spec, gaps[0].size
    text, symbols = around_gap(objective, spec, ids, gaps)
    before, after = (torch.tensor(part, device=writer.device) for part in objective.written(text, symbols, spec))
    source = torch.tensor([objective.source(text, spec)], device=writer.device)
    longest = min(LONGEST, spec.lengths.target - len(before) - max(len(after), 1) + 1)
    if (size or 0) > longest:
        raise SettingsError(f"a gap has {size} tokens and this run writes {longest} at once; give a shorter one")
    state, last = model.read(source), before[-1:]
    if len(before) > 1:
        state = model.features(before[None, :-1], state).state
    found, scores = list[Tensor](), torch.zeros(0, dtype=torch.double)
    for some in islice(growing(next_guesses(model, state, last), width, spec.vocab_size), (size or longest) + 1):
        if size in (None, some.ids.size(1)):
            found += some.ids.unbind(0)
            scores = torch.cat([scores, with_text(model, state, last, some.ids, after)])
            if len(scores) >= width and scores.topk(width).values[-1] >= some.logprobs.max():
                break  # whatever begins so is less likely than its beginning
    order = scores.argsort(descending=True)
    rows = torch.nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=PAD)[order]
    return Candidates(rows, scores.log_softmax(0)[order], complete=False)


def around_gap(objective: Any, spec: Any, ids: Tensor, gaps: list[Blank]) -> tuple[list[int], int]:
    """(as much of the text around the first gap as a restoring model reads, with `GAP` in gaps; how many it has there).

    Raises `SettingsError` for gaps side by side that could have any length.
    """
    if objective.spans and any(gap.place + gap.symbols == other.place for gap, other in pairwise(gaps)):
        raise SettingsError(
            "between two gaps there must be a token, or nobody knows where one ends; write one [MASK] for both"
        )
    text, end = ids[: gaps[0].place].tolist(), gaps[0].place
    for gap in gaps:
        text += [*ids[end : gap.place].tolist(), *[GAP] * (1 if objective.spans else gap.symbols)]
        end = gap.place + gap.symbols
    text += ids[end:].tolist()
    symbols = 1 if objective.spans else gaps[0].symbols
    unseen = (gaps[0].size or 0) if objective.spans else 0
    place, reach = gaps[0].place, spec.lengths.training
    left, right = max(0, place - reach), min(len(text), place + symbols + reach)
    while right - left > symbols and not objective.fits(*counts(text[left:right], unseen), spec.lengths):
        if right - place - symbols > place - left:
            right -= 1
        else:
            left += 1
    return text[left:right], symbols


def counts(text: Sequence[int], unseen: int) -> tuple[int, int]:
    """Tokens and gaps."""
    return len(text) - text.count(GAP) + unseen, text.count(GAP)


def next_guesses(model: Any, state: Any, last: Tensor) -> Callable[[Tensor], Tensor]:
    """What a model guesses behind beginnings (B, n), which follow the token `last` (1,) that follows a state."""

    def guesses(beginnings: Tensor) -> Tensor:
        fed = torch.cat([last.expand(len(beginnings), 1), beginnings.to(last.device)], 1)
        logits: Tensor = model.head(model.features(fed, repeated(state, len(fed))).hidden[:, -1])
        return logits

    return guesses


def with_text(model: Any, state: Any, last: Tensor, candidates: Tensor, after: Tensor) -> Tensor:
    """(N,) log-probabilities of candidates (N, T) with the text after them, in fp64."""
    length, scores = candidates.size(1) + len(after), list[Tensor]()
    for some in torch.split(candidates, rows_at_once(length, model.spec.output_size)):
        start = last.expand(len(some), 1)
        text = torch.cat([start, some.to(last.device), after.expand(len(some), -1)], 1)
        logits = model(text[:, :-1], repeated(state, len(text))).logits
        nats = F.cross_entropy(logits.mT.float(), text[:, 1:], reduction="none")  # (B, T + S)
        scores.append(nats.cpu().double().sum(1).neg())
    return torch.cat(scores)


def growing(guesses: Callable[[Tensor], Tensor], width: int, vocabulary: int | None = None) -> Iterator[Candidates]:
    """The likeliest sequences of 0, 1, 2 … tokens, of which `width` beginnings are kept at a time.

    `guesses` gives logits (B, V) of what follows beginnings (B, n), of which the first `vocabulary` are tokens.
    """
    kept, logprobs, complete = torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.double), True
    while True:
        yield Candidates(kept, logprobs, complete)
        logits = torch.cat([guesses(rows) for rows in torch.split(kept, ROWS)]).cpu().double()
        shares = logits.log_softmax(-1)[:, :vocabulary]
        every = (logprobs[:, None] + shares).flatten()  # (B V,)
        complete = complete and len(every) <= width
        logprobs, index = every.topk(min(width, len(every)))
        kept = torch.cat([kept[index // shares.size(1)], (index % shares.size(1))[:, None]], 1)


def beam(guesses: Callable[[Tensor], Tensor], size: int, width: int) -> Candidates:
    """The likeliest sequences of `size` tokens, from left to right."""
    return next(islice(growing(guesses, width), size, None))
