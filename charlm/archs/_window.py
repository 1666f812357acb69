"""Models with a window: they hold so many tokens, and slide when these do not suffice."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from charlm.archs._attention import KV, Cache
from charlm.archs._inside import refuse_longer, refuse_source
from charlm.errors import SettingsError
from charlm.model import PAD, EncoderDecoder, Features, LanguageModel, State, joined


class Windowed(LanguageModel):
    """Fills its window, then goes on from the newest part of it.

    Where it slides depends on the position in the text alone, never on how the text was cut into calls, so the
    streaming law holds at any length.
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many tokens a state can hold: its `tokens` (B, P), those since the text began or the window slid."""

    @property
    def lead_in(self) -> int:
        """As many as are kept."""
        return self.capacity // 2

    @abstractmethod
    def slide(self, tokens: Tensor) -> State:
        """A state with room again, made from the tokens (B, P) of a full one."""

    @abstractmethod
    def advance(self, tokens: Tensor, state: State) -> Features:
        """Vectors (B, T, D) for tokens that fit, and the state with them in it."""

    def refuse_unreadable(self, tokens: Tensor, source: Tensor | None) -> None:
        """Raise `SettingsError` for a source, and for a text (..., T) that does not fit at once, to look inside."""
        refuse_source(self, source)
        self.refuse_longer(tokens)

    def refuse_longer(self, tokens: Tensor) -> None:
        """Raise `SettingsError` for a text (..., T) that does not fit at once, to look inside."""
        refuse_longer(tokens, self.capacity)

    def forgotten(self, length: int) -> int:
        """All but what the window still holds in the end: a slide forgets what is older."""
        size = self.capacity
        fresh = size - size // 2  # tokens between two slides
        return max(0, -(-(length - size) // fresh)) * fresh

    def features(self, tokens: Tensor, state: State) -> Features:
        parts: list[Features] = []
        while tokens.size(1):
            if state.tokens.size(1) == self.capacity:
                state = self.slide(state.tokens)
            room = self.capacity - state.tokens.size(1)
            parts.append(self.advance(tokens[:, :room], state))
            state, tokens = parts[-1].state, tokens[:, room:]
        return joined(parts)


class Window(NamedTuple):
    """A state of tokens that look back at each other."""

    tokens: Tensor  # (B, P)
    layers: tuple[KV, ...]


def cache_for(model: Any, rows: int) -> Cache:
    """An empty KV cache with room for the whole window of a model of blocks."""
    c = model.config
    return Cache((c.layers, rows, c.head_count, model.capacity, c.hidden_size // c.head_count), model.embed.weight)


class SlidingEncoderDecoder(Windowed, EncoderDecoder):
    """Reads a source, then writes; when it has written all that it can, that becomes the next source."""

    @property
    def capacity(self) -> int:
        return self.spec.lengths.target

    @property
    def lead_in(self) -> int:
        """As many as become a source."""
        return self.capacity

    def slide(self, tokens: Tensor) -> State:
        """Raises `SettingsError` if the model reads another vocabulary than it writes."""
        if self.spec.source_vocab_size is not None:
            raise SettingsError(
                f"this run writes at most {tokens.size(1)} tokens to a source: it reads another vocabulary "
                "than it writes, and so cannot read on from its own text; train with a longer --max-length"
            )
        return self.read(tokens)

    def newest(self, source: Tensor) -> Tensor:
        """As much of each row of `source` (B, S) as is read: the last before its padding."""
        size = self.spec.lengths.source
        if source.size(1) <= size:
            return source
        first = ((source != PAD).sum(1, keepdim=True) - size).clamp(min=0)  # (B, 1)
        return source.gather(1, first + torch.arange(size, device=source.device))

    def halves(self, tokens: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is read (1, S) and what is written (1, T), to look inside; without a source, half of `tokens` each."""
        if source is None:
            source, tokens = tokens.tensor_split([len(tokens) // 2])
        self.refuse_unfit(len(source), len(tokens))
        return source[None], tokens[None]

    def opened(self, tokens: Tensor, source: Tensor | None) -> State:
        """The state that `tokens` (B, T) go on from, after `source` (B, S) or on a blank page, to look inside."""
        if source is None:
            self.refuse_longer(tokens)
            return self.start(len(tokens))
        self.refuse_unfit(source.size(1), tokens.size(1))
        return self.read(source)

    def refuse_unfit(self, read: int, written: int) -> None:
        """Raise `SettingsError` for so many tokens to read and to write, if they do not fit at once."""
        lengths = self.spec.lengths
        if not (1 <= read <= lengths.source and 1 <= written <= lengths.target):
            raise SettingsError(
                f"{read} tokens to read and {written} to write were given; "
                f"this run reads 1 to {lengths.source} and writes 1 to {lengths.target}; give texts that fit"
            )
