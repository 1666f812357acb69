"""What long work on a text yields, so that the caller can draw it."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """`what` is a short name for the person watching; `done` and `total` are bytes."""

    what: str
    done: int
    total: int
