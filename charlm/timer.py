"""When it is time to validate, to save, to write a sample."""

from __future__ import annotations

import time

from charlm.config import Interval


class Timer:
    """Says when it is time again. An automatic interval lets what it times take `share` of the time."""

    def __init__(self, interval: Interval, share: float = 0.0) -> None:
        self.interval, self.share = interval, share
        self.since = time.monotonic()

    def due(self, step: int, cost: float = 0.0) -> bool:
        """Whether to do now what will take `cost` seconds."""
        if self.interval.steps:
            return step % self.interval.steps == 0
        wait = self.interval.seconds or max(cost / self.share, 5.0)
        return time.monotonic() - self.since >= wait

    def reset(self) -> None:
        self.since = time.monotonic()
