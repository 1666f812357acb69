"""A text that is written beside others, and the choice of the next token of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.sampling.filters import NOISE_SIZE, best
from charlm.sampling.noise import streams, token_noise
from charlm.sampling.settings import MEMORY, Request
from charlm.sampling.stream import Until
from charlm.text.tokenizers import Tokenizer

AT_ONCE = 512  # tokens whose noise is made at once, at most


class Likelihood(NamedTuple):
    """A token that was written, and what else might have been."""

    id: int
    logprob: float  # nats, before temperature and filters
    text: str  # that is complete with it; empty in the middle of a UTF-8 character
    likeliest: list[tuple[int, float]]  # ids and their logprobs, the likeliest first


@dataclass
class Part:
    """What was written of a row since the last part of it."""

    row: int
    text: str
    tokens: list[Likelihood]  # those that the text is made of, if they were asked for
    count: int  # tokens that were written, those of a stop string included
    finish: str = ""  # "stop" or "length" with the last part


@dataclass
class Row:
    """Row number `number` of a request: what `Writer.sample` writes for it, token by token."""

    request: Request  # with a length and a seed
    number: int
    prompt: list[int]  # ids, one or more
    tokenizer: Tokenizer
    top: int | None = None  # how many of the likeliest tokens are wanted beside each one; None: no logprobs at all
    count: int = 0  # tokens written
    finish: str = ""
    noise: NDArray[Any] | None = field(default=None, repr=False)  # (T, V) for the tokens from number `noised` on
    noised: int = 0

    def __post_init__(self) -> None:
        self.stream = streams(self.request.chosen_seed(), [self.number])
        self.token, self.recent = self.prompt[-1], self.prompt[-MEMORY:]
        self.decoder, self.until = self.tokenizer.decoder(), Until(self.request.stop)
        r = self.request
        self.penalised = r.repetition_penalty != 1
        filters = any(r.temperatures), r.top_k, r.top_p, r.min_p, r.repetition_penalty
        self.manners = [(temperature, *filters) for temperature in r.temperatures]
        self.whole = not r.stop and self.top is None  # what is written can be decoded together
        self.ids, self.texts, self.waiting = list[int](), list[str](), deque[Likelihood]()
        self.read = self.shown = self.told = 0  # characters written, and given on; tokens that were reported

    @property
    def manner(self) -> tuple[Any, ...]:
        """Equal for rows whose next tokens can be chosen together."""
        return self.manners[self.count % len(self.manners)]

    def gumbel(self, vocabulary: int) -> NDArray[Any]:
        """The noise (V,) of the next token."""
        if self.noise is None or self.count == self.noised + len(self.noise):
            size = min(AT_ONCE, NOISE_SIZE.get("cpu", 1 << 16) // vocabulary, self.request.length - self.count)
            self.noise = token_noise(self.stream, self.count + 1, max(1, size), vocabulary)[:, 0].numpy()
            self.noised = self.count
        made: NDArray[Any] = self.noise[self.count - self.noised]
        return made

    def add(self, id: int, logprob: float = 0.0, likeliest: Sequence[tuple[int, float]] = ()) -> None:
        """Go on with a token."""
        self.token = id
        self.count += 1
        if self.penalised:
            self.recent = [*self.recent, id][-MEMORY:]
        if self.whole:
            self.ids.append(id)
        else:
            piece = self.decoder.feed(id)
            self.texts.append(self.until.feed(piece))
            if self.top is not None:
                self.waiting.append(Likelihood(id, logprob, piece, list(likeliest)))
        if self.until.done:
            self.finish = "stop"
        elif self.count == self.request.length:
            self.texts.append(self.until.flush())
            self.finish = "length"

    def part(self) -> Part:
        """What was written since the last call, as far as it is certain."""
        text = "".join([*self.texts, self.decoder.feed(*self.ids)])
        self.texts.clear()
        self.ids.clear()
        self.shown += len(text)
        tokens = []
        while self.waiting and self.read + len(self.waiting[0].text) <= self.shown:
            tokens.append(self.waiting.popleft())
            self.read += len(tokens[-1].text)
        count, self.told = self.count - self.told, self.count
        return Part(self.number, text, tokens, count, self.finish)


def choose(rows: Sequence[Row], logits: Tensor) -> list[int]:
    """The next id of each row; logits (N, V)."""
    logits = logits.float()
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.manner, []).append(place)
    if len(groups) == 1:
        return chosen(rows, logits)
    ids = [0] * len(rows)
    for places in groups.values():
        for place, id in zip(places, chosen([rows[place] for place in places], logits[places]), strict=True):
            ids[place] = id
    return ids


def chosen(rows: Sequence[Row], logits: Tensor) -> list[int]:
    """As `choose`, for rows of one manner."""
    temperature, drawn, *_ = rows[0].manner
    noise, recent = None, None
    if drawn:
        noises = np.concatenate([row.gumbel(logits.size(1)) for row in rows])
        noise = torch.from_numpy(noises).view(logits.shape).to(logits.device)
    if rows[0].penalised:  # what stands there twice is not penalised twice
        padded = [row.recent[:1] * (MEMORY - len(row.recent)) + row.recent for row in rows]
        recent = torch.tensor(padded, device=logits.device)
    ids: list[int] = best(rows[0].request, temperature, logits, noise, recent).tolist()
    return ids


def likelihoods(rows: Sequence[Row], logits: Tensor, ids: Sequence[int]) -> dict[int, tuple[float, list[Any]]]:
    """Of each row that wants to know, by its place: the logprob of its id, and of the likeliest tokens."""
    places = [place for place, row in enumerate(rows) if row.top is not None]
    if not places:
        return {}
    logprobs = logits[places].float().log_softmax(-1)
    values, likeliest = logprobs.topk(min(logprobs.size(1), max(row.top or 0 for row in rows)))
    written = logprobs.gather(1, torch.tensor([ids[place] for place in places], device=logits.device)[:, None])
    result = {}
    for place, own, *best_ones in zip(places, written[:, 0].tolist(), likeliest.tolist(), values.tolist(), strict=True):
        pairs = list(zip(*best_ones, strict=True))[: rows[place].top]
        result[place] = own, pairs
    return result
