"""Fill gaps in a text with the likeliest tokens.

A run that was trained to guess hidden tokens (Devlin et al. 2018, arXiv:1810.04805) says what stands in a gap. So does
one that guesses in any order (Yang et al. 2019, arXiv:1906.08237), of several tokens as one distribution. One that
guesses each next token is asked how likely the whole text becomes with each candidate in it: exact, and dearer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charlm import kinds
from charlm.errors import SettingsError
from charlm.evaluate import LOGITS, ROWS
from charlm.model import EncoderDecoder, LanguageModel, repeated
from charlm.objectives._hiding import MASK, Hiding
from charlm.objectives.permute import Permute
from charlm.progress import Progress
from charlm.text.tokenizers import Tokenizer
from charlm.text.units import Ids
from charlm.writer import Writer

GAPS = re.compile(r"((?:\[MASK\](?:\{\d+\})?)+)")  # [MASK], [MASK]{3}, [MASK][MASK]
COUNT = re.compile(r"\[MASK\](?:\{(\d+)\})?")
LONGEST = 64  # tokens of a gap
WIDTH = 16  # candidates that are kept, at least, while a gap of several tokens is filled from left to right
BEFORE = 256  # the same, where only what stands before the gap is known so far
WORK = 1 << 18  # tokens that are read, at most, to try candidates


class Guess(NamedTuple):
    text: str
    share: float


class Gap(NamedTuple):
    tokens: int
    guesses: list[Guess]  # the best first
    tried: int | None  # candidates that the shares are of; None: all that are possible


class Filled(NamedTuple):
    text: str  # with the best guess in each gap
    gaps: list[Gap]

    def to_json(self) -> dict[str, Any]:
        gaps = [gap._asdict() | {"guesses": [guess._asdict() for guess in gap.guesses]} for gap in self.gaps]
        return {"text": self.text, "gaps": gaps}


class Candidates(NamedTuple):
    """What may stand in a gap of T tokens, the likeliest first."""

    ids: Tensor  # (N, T)
    logprobs: Tensor  # (N,) their shares' logarithms
    complete: bool  # nothing else is possible


Filler = Callable[[Writer, Tensor, int, int, int], Candidates]
"""(writer, ids (N,) with a symbol in each gap, where the gap begins, its tokens, how many candidates are wanted)"""


def fill(writer: Writer, text: str, top: int = 5) -> Generator[Progress, None, Filled]:
    """The `top` best guesses for each gap of `text`: `[MASK]` is one token, `[MASK]{3}` and `[MASK][MASK][MASK]` three.

    Gaps are filled from left to right: the guesses for one take the best ones before it for granted. So are the tokens
    of a gap, of which the likeliest beginnings are kept, and a guess's share is the product of those of its tokens.

    Raises `SettingsError` for a text without gaps, and for a run that cannot fill any; `VocabularyError` for characters
    that the vocabulary lacks.
    """
    guess = filler(writer)
    ids, gaps = parse(writer.tokenizer, text)
    filled = []
    for number, (place, size) in enumerate(gaps):
        yield Progress("filling gaps", number, len(gaps))
        candidates = guess(writer, ids, place, size, max(top, WIDTH))
        ids[place : place + size] = candidates.ids[0]
        texts = [writer.tokenizer.decode(row) for row in candidates.ids[:top].tolist()]
        shares = candidates.logprobs[:top].exp().tolist()
        tried = None if candidates.complete else len(candidates.ids)
        filled.append(Gap(size, [Guess(*pair) for pair in zip(texts, shares, strict=True)], tried))
    return Filled(writer.tokenizer.decode(ids.tolist()), filled)


def filler(writer: Writer) -> Filler:
    """What fills gaps with this run. Raises `SettingsError` if nothing does."""
    writer.refuse_other_commands("fill")
    kinds.refuse_another(writer.kind, kinds.TEXT)
    if isinstance(writer.objective, Hiding):
        return between
    if isinstance(writer.objective, Permute):
        return in_order
    if isinstance(writer.model, EncoderDecoder):
        raise SettingsError(
            f"this run learnt to go on with a text ({writer.objective.name()}) and not to fill gaps: charlm sample "
            "does that; to fill them use a run of --arch bert, lstm or transformer"
        )
    if not isinstance(writer.model, LanguageModel):
        raise SettingsError(
            f"this run learnt another task ({writer.objective.name()}) and fills no gaps; see charlm eval"
        )
    return before_and_after


def parse(tokenizer: Tokenizer, text: str) -> tuple[Tensor, list[tuple[int, int]]]:
    """(ids (N,) with symbols in gaps, where each gap begins and how many tokens it has).

    Where tokens begin with the space before a word, a space before a gap belongs to the gap.
    """
    parts: list[Ids] = []
    gaps, length = list[tuple[int, int]](), 0
    for number, part in enumerate(pieces := GAPS.split(text)):
        if number % 2:
            size = sum(int(count or 1) for count in COUNT.findall(part))
            if not 1 <= size <= LONGEST:
                raise SettingsError(f"a gap must have from 1 to {LONGEST} tokens, got {size}: {part[:40]}")
            gaps.append((length, size))
            parts.append(np.full(size, tokenizer.vocab_size + MASK))
        else:
            last = number == len(pieces) - 1
            parts.append(
                tokenizer.encode(part[:-1] if tokenizer.joins_blanks and part.endswith(" ") and not last else part)
            )
        length += len(parts[-1])
    if not gaps:
        raise SettingsError('the text has no gap; write [MASK] where a token is wanted: "To be, or [MASK] to be"')
    return torch.from_numpy(np.concatenate(parts)), gaps


@torch.inference_mode()
def between(writer: Writer, ids: Tensor, place: int, size: int, width: int) -> Candidates:
    """By a model of hidden tokens, which sees what stands on both sides."""
    room = writer.objective.at_once(writer.model.spec)  # type: ignore[attr-defined]  # it is `Hiding`
    window, place = around(ids, place, size, room)

    def guesses(beginnings: Tensor) -> Tensor:
        rows = with_beginnings(window, place, beginnings)
        logits: Tensor = writer.objective.guesses(writer.model, rows.to(writer.device))  # type: ignore[attr-defined]
        return logits[:, place + beginnings.size(1)]

    return beam(guesses, size, width if size > 1 else len(writer.tokenizer.tokens))


@torch.inference_mode()
def in_order(writer: Writer, ids: Tensor, place: int, size: int, width: int) -> Candidates:
    """By a model that guesses in any order: the tokens of the gap from left to right, and those of later gaps last, so
    that no guess knows of them."""
    window, place = around(ids, place, size, writer.model.spec.lengths.window)
    unknown = (window >= len(writer.tokenizer.tokens)).nonzero()[:, 0]  # from left to right, so this gap's come first
    window = window.index_fill(0, unknown, 0)  # what is fed there is never seen

    def guesses(beginnings: Tensor) -> Tensor:
        rows = with_beginnings(window, place, beginnings).to(writer.device)
        places = unknown.expand(len(rows), -1).to(writer.device)
        logits: Tensor = writer.model(rows, places=places)
        return logits[:, beginnings.size(1)]

    return beam(guesses, size, width if size > 1 else len(writer.tokenizer.tokens))


def around(ids: Tensor, place: int, size: int, room: int) -> tuple[Tensor, int]:
    """What is read at once of a text (N,), with a gap in the middle where that can be, and where the gap begins in it.

    Raises `SettingsError` for a gap that is longer.
    """
    if size > room:
        raise SettingsError(f"a gap has {size} tokens and this run reads {room} at once; give a shorter one")
    start = max(0, min(place + size // 2 - room // 2, len(ids) - room))
    return ids[start : start + room], place - start


def with_beginnings(window: Tensor, place: int, beginnings: Tensor) -> Tensor:
    """(B, S) the text (S,) with each of the beginnings (B, n) of a gap in its place."""
    rows = window.repeat(len(beginnings), 1)
    rows[:, place : place + beginnings.size(1)] = beginnings
    return rows


@torch.inference_mode()
def before_and_after(writer: Writer, ids: Tensor, place: int, size: int, width: int) -> Candidates:
    """By a model of the next token: candidates are put in and scored together with what follows, up to the next gap.

    They are all tokens or, where these are too many to be tried, and of several tokens, the likeliest after what stands
    before the gap.
    """
    model, vocabulary = writer.model, len(writer.tokenizer.tokens)
    before = torch.cat([torch.tensor([writer.tokenizer.start]), ids[:place]]).to(writer.device)
    after = ids[place + size :]
    after = after[: int((after >= vocabulary).long().cumsum(0).eq(0).sum())].to(writer.device)
    state, last = model.read(before[None, :-1]), before[-1:]

    def guesses(beginnings: Tensor) -> Tensor:
        fed = torch.cat([last.expand(len(beginnings), 1), beginnings.to(writer.device)], 1)
        hidden = model.features(fed, repeated(state, len(fed))).hidden[:, -1]
        logits: Tensor = model.head(hidden)
        return logits

    count = max(width, WORK // (size + len(after)))
    some = beam(guesses, size, min(count, vocabulary if size == 1 else BEFORE))
    rows = max(1, min(ROWS, LOGITS // ((size + len(after)) * vocabulary)))
    scored = [with_text(model, state, last, part.to(writer.device), after) for part in torch.split(some.ids, rows)]
    logprobs = torch.cat(scored).log_softmax(0)
    order = logprobs.argsort(descending=True)
    return Candidates(some.ids[order], logprobs[order], some.complete)


def with_text(model: Any, state: Any, last: Tensor, candidates: Tensor, after: Tensor) -> Tensor:
    """(B,) log-probabilities of candidates (B, T) with the text after them, in fp64."""
    text = torch.cat([last.expand(len(candidates), 1), candidates, after.expand(len(candidates), -1)], 1)
    logits = model(text[:, :-1], repeated(state, len(text))).logits
    nats = F.cross_entropy(logits.mT.float(), text[:, 1:], reduction="none")  # (B, T + S)
    return nats.cpu().double().sum(1).neg()


def beam(guesses: Callable[[Tensor], Tensor], size: int, width: int) -> Candidates:
    """The likeliest sequences of `size` tokens, from left to right; `width` beginnings are kept.

    `guesses` gives logits (B, V) of what follows beginnings (B, n).
    """
    kept, logprobs, complete = torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.double), True
    for _ in range(size):
        logits = torch.cat([guesses(rows) for rows in torch.split(kept, ROWS)]).cpu().double()
        every = (logprobs[:, None] + logits.log_softmax(-1)).flatten()  # (B V,)
        complete = complete and len(every) <= width
        logprobs, index = every.topk(min(width, len(every)))
        kept = torch.cat([kept[index // logits.size(1)], (index % logits.size(1))[:, None]], 1)
    return Candidates(kept, logprobs, complete)
