"""Long work is a generator: it yields its `Progress`, for the caller to display, and returns its result."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")


class Progress(NamedTuple):
    """How far a piece of work is: `done` of `total`, in a unit of its own, such as bytes or tokens."""

    what: str  # a short name of the work, for display
    done: int
    total: int


def result(work: Generator[Any, None, R]) -> R:
    """Run long work to its end, without its progress, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
