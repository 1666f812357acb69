"""A model with a window: it holds so many tokens, and slides when they do not suffice."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from charlm.model import Features, LanguageModel, State


class Windowed(LanguageModel):
    """Fills its window, then goes on from the newest part of it.

    Where it slides depends on the position in the text alone, never on how the text was cut into calls, so the
    streaming law holds at any length.
    """

    @abstractmethod
    def blank(self, tokens: Tensor) -> State:
        """The state before anything was written, for as many rows as `tokens` has."""

    @abstractmethod
    def room(self, state: State) -> int:
        """How many more tokens the state can take."""

    @abstractmethod
    def slide(self, state: State) -> State:
        """A state with room again, made from the newest tokens of a full one."""

    @abstractmethod
    def write(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Vectors (B, T, D) for tokens that fit, and the state with them in it."""

    def read(self, source: Tensor) -> State:
        """Only what the window still holds in the end: a slide forgets all that is older."""
        size = self.spec.seq_len
        fresh = size - size // 2  # tokens between two slides
        slides = max(0, -(-(source.size(1) - size) // fresh))
        return super().read(source[:, slides * fresh :])

    def features(self, tokens: Tensor, state: State = None) -> Features:
        if state is None:
            state = self.blank(tokens)
        hidden = []
        while tokens.size(1):
            if self.room(state) == 0:
                state = self.slide(state)
            room = self.room(state)
            vectors, state = self.write(tokens[:, :room], state)
            hidden.append(vectors)
            tokens = tokens[:, room:]
        return Features(hidden[0] if len(hidden) == 1 else torch.cat(hidden, 1), state)
