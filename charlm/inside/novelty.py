"""How much of a text stands word for word in the text that a run was trained on.

For each position of the text: the length of the longest passage ending there that the training text holds too (the
matching statistics of Chang & Lawler 1994, doi 10.1007/BF01185431). Every share of n-grams follows from these. The
training text runs once through the suffix automaton of the text in question (Blumer et al. 1985,
doi 10.1016/0304-3975(85)90157-4): time grows with the sum of the two lengths, memory with the shorter one alone.

The measure is that of McCoy et al. 2023, arXiv:2111.09509, in characters: n-grams of held-out text are the yardstick,
since people repeat themselves too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.progress import Progress
from charlm.sampling.settings import Request
from charlm.writer import Writer

SIZES = (4, 8, 12, 16, 24, 32, 48, 64)  # characters of an n-gram
YARDSTICK = 20_000  # characters of held-out text that are looked at
BORDER = "\udfff"  # stands in no text, so that nothing is found across it
STRIDE = 1 << 18  # characters between two signs of life

Counts = NDArray[np.int64]


class Passage(NamedTuple):
    """What stands in both texts, word for word."""

    text: str
    at: int  # its first character in the text that was looked at, from 0
    known_at: int  # and in the training text


class Novelty(NamedTuple):
    """What of a text stands in the training text."""

    copied: Counts  # (N,) for each character, the length of the longest copied passage that it is part of
    shares: dict[int, float]  # of its n-grams, by n, that the training text holds; none where it is shorter than n
    held_out: dict[int, float]  # the same of held-out text
    longest: Passage
    longest_held_out: int  # characters


def novelty(text: str, known: str, held_out: str) -> Generator[Progress, None, Novelty]:
    """Compare `text` with the training text `known`, and held-out text with it for a yardstick."""
    held_out = held_out[:YARDSTICK]
    lengths, ends = yield from matches(text + BORDER + held_out, known)
    own, others = lengths[: len(text)], lengths[len(text) + 1 :]
    copied = np.zeros(len(text), np.int64)
    longest_first, free = np.argsort(-own, kind="stable"), Unclaimed(len(text))
    for end in longest_first.tolist():
        for at in free.take(end + 1 - int(own[end]), end + 1):
            copied[at] = own[end]
    last = int(own.argmax()) if text else 0
    size = int(own.max(initial=0))
    longest = Passage(text[last + 1 - size : last + 1], last + 1 - size, int(ends[last]) + 1 - size)
    return Novelty(copied, shares(own), shares(others), longest, int(others.max(initial=0)))


class Unclaimed:
    """Numbers below `size` not taken yet: a disjoint-set forest (Tarjan 1975, doi 10.1145/321879.321884)."""

    def __init__(self, size: int) -> None:
        self.after = list(range(size + 1))  # where to look on for a free number

    def take(self, start: int, stop: int) -> Iterator[int]:
        """Those from `start` to before `stop`."""
        at = self.find(start)
        while at < stop:
            yield at
            self.after[at] = at + 1
            at = self.find(at + 1)

    def find(self, at: int) -> int:
        while self.after[at] != at:
            self.after[at] = self.after[self.after[at]]
            at = self.after[at]
        return at


def shares(lengths: Counts) -> dict[int, float]:
    return {n: float((lengths[n - 1 :] >= n).mean()) for n in SIZES if len(lengths) >= n}


def matches(text: str, known: str) -> Generator[Progress, None, tuple[Counts, Counts]]:
    """For each character of `text`: how long the longest passage is that ends there and stands in `known`, and where
    it ends there; (N,) both."""
    follow, link, longest, states = automaton(text)
    best, ends = [0] * len(follow), [0] * len(follow)
    state = length = 0
    for start in range(0, len(known), STRIDE):
        for at, character in enumerate(known[start : start + STRIDE], start):
            while character not in follow[state] and state:
                state = link[state]
                length = longest[state]
            state = follow[state].get(character, 0)
            length = length + 1 if state else 0
            if length > best[state]:
                best[state], ends[state] = length, at
        yield Progress("searching the training text", min(start + STRIDE, len(known)), len(known))
    for state in sorted(range(1, len(follow)), key=longest.__getitem__, reverse=True):
        shorter = link[state]  # its passages end wherever those of `state` end
        if best[state] and best[shorter] < longest[shorter]:
            best[shorter], ends[shorter] = longest[shorter], ends[state]
    found = []
    for state in states:
        while state and not best[state]:
            state = link[state]
        found.append((best[state], ends[state]))
    lengths, places = np.array(found, np.int64).reshape(-1, 2).T
    return lengths, places


def automaton(text: str) -> tuple[list[dict[str, int]], list[int], list[int], list[int]]:
    """The smallest automaton that reads every passage of `text`, built a character at a time.

    A state stands for passages that end at the same places. For each state: which one follows by which character, the
    one for shorter passages that also end elsewhere, and the length of its longest passage. Last, for each character
    of `text`, the state in which it leaves the automaton.
    """
    follow: list[dict[str, int]] = [{}]
    link, longest, states, last = [-1], [0], [], 0
    for character in text:
        new, at = len(follow), last
        follow.append({})
        link.append(0)
        longest.append(longest[last] + 1)
        while at >= 0 and character not in follow[at]:
            follow[at][character] = new
            at = link[at]
        if at >= 0:
            link[new] = to = follow[at][character]
            if longest[to] != longest[at] + 1:  # its longer passages do not end here: the others get a state
                link[new] = copy = len(follow)
                follow.append(dict(follow[to]))
                link.append(link[to])
                longest.append(longest[at] + 1)
                link[to] = copy
                while at >= 0 and follow[at].get(character) == to:
                    follow[at][character] = copy
                    at = link[at]
        states.append(new)
        last = new
    return follow, link, longest, states


def written(writer: Writer, length: int, *, temperature: str, seed: int) -> Generator[Progress, None, str]:
    """So many characters from a blank page."""
    text: list[str] = []
    done = 0
    for piece in writer.pieces(Request(temperature, length=0, seed=seed)):
        text += piece.texts
        done += len(piece.texts[0])
        if done >= length:
            break
        if len(text) % 64 == 0:
            yield Progress("writing", done, length)
    return "".join(text)[:length]
