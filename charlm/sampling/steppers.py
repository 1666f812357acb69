"""A pool of steppers: weights packed for a CPU or a step recorded on a GPU are kept for the next text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from torch import nn

from charlm.model import LanguageModel, Stepper

KEPT = 4  # steppers of a run
ROWS = 64  # a stepper for more rows is not kept: it holds much memory, and is made quickly compared with its use


class Steppers:
    """Lends a model's steppers, and keeps the `capacity` newest of those that were returned.

    A stepper holds the state of its text, so it is lent to one text at a time; if none is free, another is made. When
    weights change, all kept ones are dropped. A change through `.data` is not noticed.
    """

    def __init__(self, model: LanguageModel, capacity: int) -> None:
        self.model, self.capacity = model, capacity
        self.kept: list[tuple[int, Stepper]] = []  # (rows, stepper), the newest last
        self.made_for = versions(model)  # the weights that they were made for

    @contextmanager
    def lent(self, rows: int) -> Iterator[Stepper]:
        """A stepper for so many rows, to be used in the `with` block alone."""
        if (weights := versions(self.model)) != self.made_for:
            self.kept, self.made_for = [], weights
        index = next((index for index, (number, _) in enumerate(self.kept) if number == rows), None)
        step = self.model.stepper(rows) if index is None else self.kept.pop(index)[1]
        try:
            yield step
        finally:
            if weights == self.made_for and rows <= ROWS:
                self.kept = [*self.kept, (rows, step)][max(0, len(self.kept) + 1 - self.capacity) :]


def versions(model: nn.Module) -> list[tuple[int, int]]:
    """(address, number of in-place changes) of every weight."""
    weights = chain(model.parameters(), model.buffers())
    return [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]
