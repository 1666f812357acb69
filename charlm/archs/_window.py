"""A model with a window: it holds so many tokens, and slides when they do not suffice."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from charlm.errors import SettingsError
from charlm.model import PAD, Features, LanguageModel, State


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


class EncoderDecoder(Windowed):
    """Reads half a window, then writes the other half; what was written becomes the next source.

    Nothing read at all is a source of no tokens. The state has `written` (B, P): what was fed since it read.
    """

    objectives = ("continue", "pairs")

    def blank(self, tokens: Tensor) -> State:
        return self.read(tokens[:, :0])

    def room(self, state: State) -> int:
        return self.spec.seq_len - self.spec.seq_len // 2 - int(state.written.size(1))

    def slide(self, state: State) -> State:
        """Raises `SettingsError` if the model reads another vocabulary than it writes."""
        if self.spec.source_vocab_size is not None:
            raise SettingsError(
                f"this run writes at most {state.written.size(1)} tokens to a source: it reads another vocabulary "
                "than it writes, and so cannot read on from its own text; train with a longer --max-length"
            )
        return self.read(state.written)

    def newest(self, source: Tensor) -> Tensor:
        """As much of each row of `source` (B, S) as is read: the last before its padding."""
        size = self.spec.seq_len // 2
        if source.size(1) <= size:
            return source
        first = ((source != PAD).sum(1, keepdim=True) - size).clamp(min=0)  # (B, 1)
        return source.gather(1, first + torch.arange(size, device=source.device))

    def halves(self, tokens: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is read (1, S) and what is written (1, T), to look inside; without a source, half of `tokens` each."""
        if source is None:
            source, tokens = tokens.tensor_split([len(tokens) // 2])
        most = self.spec.seq_len // 2
        if not (1 <= len(source) <= most and 1 <= len(tokens) <= self.spec.seq_len - most):
            raise SettingsError(
                f"{len(source)} tokens to read and {len(tokens)} to write were given; "
                f"this run reads 1 to {most} and writes 1 to {self.spec.seq_len - most}; give texts that fit"
            )
        return source[None], tokens[None]
