"""Long work is a generator: it yields how far it is, so that the caller can draw it, and returns what it made."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")


class Progress(NamedTuple):
    """`what` is a short name for the person watching; `done` of `total`, in bytes or in tokens."""

    what: str
    done: int
    total: int


def result(work: Generator[Any, None, R]) -> R:
    """Do long work without watching it."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
