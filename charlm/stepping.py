"""What writes on from a state, token by token. B rows, N of them in use, V vocabulary."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from charlm.states import State, map_state


class Stepper(Protocol):
    """Writes on from a state, token by token, in rows whose number is fixed. It owns all the memory that it changes."""

    def begin(self, state: State) -> None:
        """Go on from `state`, which stays as it is."""

    def __call__(self, token: Tensor) -> Tensor:
        """The next token (B,) of each row -> logits (B, V) for the one after it."""


class RowStepper(Protocol):
    """As a `Stepper`, of rows that begin and end at different times, each at a place of its own in a text of its own.

    The rows that write are the first ones, so when another ends, the last one moves into its place.
    """

    def put(self, row: int, state: State) -> None:
        """Let a row go on from `state`, which is of one row and stays as it is."""

    def move(self, source: int, row: int) -> None:
        """Let `row` go on from where row number `source` is."""

    def __call__(self, token: Tensor) -> Tensor:
        """The next token (N,) of each of the first N rows -> logits (N, V) for the ones after them."""


class PlainStepper:
    """The model's own `step`, with the state kept."""

    def __init__(self, model: Any) -> None:
        self.model, self.state = model, None

    def begin(self, state: State) -> None:
        self.state = state

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        logits: Tensor
        logits, self.state = self.model.step(token, self.state)
        return logits


class SeparateRows:
    """A stepper for each row."""

    def __init__(self, model: Any, rows: int) -> None:
        self.model = model
        self.steps: list[Stepper | None] = [None] * rows  # each made when it is wanted

    def put(self, row: int, state: State) -> None:
        step = self.steps[row] = self.steps[row] or self.model.stepper(1)
        step.begin(state)

    def move(self, source: int, row: int) -> None:
        self.steps[row], self.steps[source] = self.steps[source], self.steps[row]

    def __call__(self, token: Tensor) -> Tensor:
        steps = [step for step in self.steps[: len(token)] if step is not None]
        return torch.cat([step(one) for step, one in zip(steps, torch.split(token, 1), strict=True)])


class JoinedRows:
    """Rows of one state, whose shape does not depend on what was read."""

    def __init__(self, model: Any, rows: int) -> None:
        self.model, self.state = model, map_state(torch.clone, model.start(rows))

    @torch.inference_mode()
    def put(self, row: int, state: State) -> None:
        map_state(lambda held, new: held[row : row + 1].copy_(new), self.state, state)

    @torch.inference_mode()
    def move(self, source: int, row: int) -> None:
        map_state(lambda held: held[row].copy_(held[source]), self.state)

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        logits: Tensor
        logits, state = self.model.step(token, map_state(lambda held: held[: len(token)], self.state))
        map_state(lambda held, new: held[: len(token)].copy_(new), self.state, state)
        return logits
