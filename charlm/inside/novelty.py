"""How much of a text is copied word for word from the training text of a run.

For each position of the text: the length of the longest passage that ends at it and occurs in the training text (the
matching statistics of Chang & Lawler 1994, doi 10.1007/BF01185431). The share of copied n-grams follows from these for
any n. The training text runs once through the suffix automaton of the text in question (Blumer et al. 1985,
doi 10.1016/0304-3975(85)90157-4): time grows with the sum of the two lengths, memory with the text in question alone.

The measure is that of McCoy et al. 2023, arXiv:2111.09509, in characters. It is compared with that of held-out text,
since people repeat themselves too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.progress import Progress
from charlm.sampling.settings import Request
from charlm.scoring import TrainingText
from charlm.writer import Writer

SIZES = (4, 8, 12, 16, 24, 32, 48, 64)  # characters of an n-gram
HELD_OUT = 20_000  # characters of held-out text to compare with
BORDER = "\udfff"  # occurs in no text, so that no passage spans it
STRIDE = 1 << 18  # characters between two reports of progress

Counts = NDArray[np.int64]


class Passage(NamedTuple):
    """A passage that occurs in both texts."""

    text: str
    at: int  # position of its first character in the text in question, from 0
    known_at: int  # the same in the training text


class Novelty(NamedTuple):
    """How much of a text occurs in the training text."""

    copied: Counts  # (N,) for each character the length of the longest copied passage that contains it
    shares: dict[int, float]  # by n, the share of its n-grams that the training text has; only for n up to its length
    held_out: dict[int, float]  # the same of held-out text
    longest: Passage
    longest_held_out: int  # characters


class Examined(NamedTuple):
    """A text, and how much of it the run copied from the text that it was trained on."""

    text: str
    trained: TrainingText
    novelty: Novelty

    @property
    def line(self) -> int:
        """The line of the whole training text in which the longest copied passage begins, from 1."""
        return 1 + self.trained.lines_before + self.trained.text.count("\n", 0, self.novelty.longest.known_at)

    def to_json(self) -> dict[str, Any]:
        found, longest = self.novelty, self.novelty.longest
        return {
            "text": self.text,
            "searched_chars": len(self.trained.text),
            "shares": found.shares,
            "held_out_shares": found.held_out,
            "longest": {**longest._asdict(), "known_at": self.trained.chars_before + longest.known_at}
            | {"chars": len(longest.text), "line": self.line},
            "held_out_longest": found.longest_held_out,
            "copied": found.copied.tolist(),
        }


def examine(text: str, trained: TrainingText) -> Generator[Progress, None, Examined]:
    """Look for the passages of `text` in what a run was trained on."""
    return Examined(text, trained, (yield from novelty(text, trained.text, trained.held_out)))


def novelty(text: str, known: str, held_out: str) -> Generator[Progress, None, Novelty]:
    """Compare `text` with the training text `known`, and the beginning of `held_out` with it too."""
    held_out = held_out[:HELD_OUT]
    lengths, ends = yield from matches(text + BORDER + held_out, known)
    own, others = lengths[: len(text)], lengths[len(text) + 1 :]
    copied = np.zeros(len(text), np.int64)
    longest_first, free = np.argsort(-own, kind="stable"), FreeNumbers(len(text))
    for end in longest_first.tolist():
        for position in free.claim(end + 1 - int(own[end]), end + 1):
            copied[position] = own[end]
    last = int(own.argmax()) if text else 0
    size = int(own.max(initial=0))
    longest = Passage(text[last + 1 - size : last + 1], last + 1 - size, int(ends[last]) + 1 - size)
    return Novelty(copied, shares(own), shares(others), longest, int(others.max(initial=0)))


class FreeNumbers:
    """The numbers below `size` not claimed yet: a disjoint-set forest (Tarjan 1975, doi 10.1145/321879.321884)."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size + 1))  # a free number is its own; from a claimed one they lead to the next free

    def claim(self, start: int, stop: int) -> Iterator[int]:
        """Claim the free numbers from `start` to before `stop`."""
        number = self.next_free(start)
        while number < stop:
            yield number
            self.parent[number] = number + 1
            number = self.next_free(number + 1)

    def next_free(self, number: int) -> int:
        """The smallest free number from `number` on."""
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number


def shares(lengths: Counts) -> dict[int, float]:
    """By n, the share of copied n-grams, from the matching statistics (N,)."""
    return {n: float((lengths[n - 1 :] >= n).mean()) for n in SIZES if len(lengths) >= n}


def matches(text: str, known: str) -> Generator[Progress, None, tuple[Counts, Counts]]:
    """(N,) the length of the longest passage that ends with each character of `text` and occurs in `known`, and (N,)
    the position of its last character in `known`."""
    follow, link, longest, states = automaton(text)
    best, ends = [0] * len(follow), [0] * len(follow)
    state = length = 0
    for start in range(0, len(known), STRIDE):
        for position, character in enumerate(known[start : start + STRIDE], start):
            while character not in follow[state] and state:
                state = link[state]
                length = longest[state]
            state = follow[state].get(character, 0)
            length = length + 1 if state else 0
            if length > best[state]:
                best[state], ends[state] = length, position
        yield Progress("searching the training text", min(start + STRIDE, len(known)), len(known))
    for state in sorted(range(1, len(follow)), key=longest.__getitem__, reverse=True):
        shorter = link[state]  # its passages end wherever those of `state` end
        if best[state] and best[shorter] < longest[shorter]:
            best[shorter], ends[shorter] = longest[shorter], ends[state]
    results = []
    for state in states:
        while state and not best[state]:
            state = link[state]
        results.append((best[state], ends[state]))
    lengths, positions = np.array(results, np.int64).reshape(-1, 2).T
    return lengths, positions


def automaton(text: str) -> tuple[list[dict[str, int]], list[int], list[int], list[int]]:
    """The suffix automaton of `text`: the smallest one that accepts every passage of it, built character by character.

    A state stands for all passages that end at the same positions. Given are, for each state, its transitions by
    character, its suffix link (the state of the shorter passages that end at more positions) and the length of its
    longest passage, and last, for each character of `text`, the state after it.
    """
    follow: list[dict[str, int]] = [{}]
    link, longest, states, last = [-1], [0], [], 0
    for character in text:
        new, state = len(follow), last
        follow.append({})
        link.append(0)
        longest.append(longest[last] + 1)
        while state >= 0 and character not in follow[state]:
            follow[state][character] = new
            state = link[state]
        if state >= 0:
            link[new] = target = follow[state][character]
            if longest[target] != longest[state] + 1:  # only its shorter passages end here: they get a state
                link[new] = copy = len(follow)
                follow.append(dict(follow[target]))
                link.append(link[target])
                longest.append(longest[state] + 1)
                link[target] = copy
                while state >= 0 and follow[state].get(character) == target:
                    follow[state][character] = copy
                    state = link[state]
        states.append(new)
        last = new
    return follow, link, longest, states


def written(writer: Writer, length: int, *, temperature: str, seed: int) -> Generator[Progress, None, str]:
    """A text of `length` characters that the run writes without a prompt."""
    text: list[str] = []
    done = 0
    for piece in writer.pieces(Request(temperature, length=0, seed=seed), logits=False):
        text += piece.texts
        done += len(piece.texts[0])
        if done >= length:
            break
        if len(text) % 64 == 0:
            yield Progress("writing", done, length)
    return "".join(text)[:length]
