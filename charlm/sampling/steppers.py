"""What is made before writing, weights packed for a CPU and steps recorded on a GPU, and kept for the next text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from torch import nn

from charlm.model import LanguageModel, Stepper

KEPT = 4  # steppers of a run
ROWS = 64  # of more rows at once none is kept: it would hold much memory, and making it is little beside its work


class Steppers:
    """Lends a model's steppers, and keeps the newest of those that came back.

    A stepper may hold the state of what it writes, so it is lent to one text at a time; where all are out, another is
    made. It begins every text anew, from the state that it is given. All that are kept were made for the weights as
    they are: a weight that was moved or changed in place is seen, one that was changed through `.data` is not.
    """

    def __init__(self, model: LanguageModel, most: int) -> None:
        self.model, self.most = model, most
        self.kept: list[tuple[int, Stepper]] = []  # with their rows, the newest last
        self.made_for = versions(model)

    @contextmanager
    def lent(self, rows: int) -> Iterator[Stepper]:
        """One for so many rows."""
        if (now := versions(self.model)) != self.made_for:
            self.kept, self.made_for = [], now
        at = next((at for at, (its_rows, _) in enumerate(self.kept) if its_rows == rows), None)
        step = self.model.stepper(rows) if at is None else self.kept.pop(at)[1]
        try:
            yield step
        finally:
            if now == self.made_for and rows <= ROWS:
                self.kept = [*self.kept, (rows, step)][max(0, len(self.kept) + 1 - self.most) :]


def versions(model: nn.Module) -> list[tuple[int, int]]:
    """Where each weight is, and how often it was written to."""
    weights = chain(model.parameters(), model.buffers())
    return [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]
