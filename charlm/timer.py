"""How long a training has taken, and when it is time to validate, to save, to write a sample."""

from __future__ import annotations

from time import perf_counter as now  # the clock of trainings; another that is put here runs as it likes

from charlm.interval import Interval


class Clock:
    """The seconds that were spent on training steps: what `--minutes`, speeds and curves all mean.

    A step starts it; it stands while validations, samples and checkpoints are made, and between sessions.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.before = seconds
        self.started: float | None = None  # None while it stands

    @property
    def seconds(self) -> float:
        return self.before + (0.0 if self.started is None else now() - self.started)

    def start(self) -> None:
        """Nothing if it runs."""
        if self.started is None:
            self.started = now()

    def stop(self) -> None:
        """Nothing if it stands."""
        self.before, self.started = self.seconds, None


class Timer:
    """Says when it is time again. An automatic interval lets what it times take `share` of the time."""

    def __init__(self, interval: Interval, share: float = 0.0) -> None:
        self.interval, self.share = interval, share
        self.since = now()

    def due(self, step: int, cost: float = 0.0) -> bool:
        """Whether to do now what will take `cost` seconds."""
        if self.interval.steps:
            return step % self.interval.steps == 0
        wait = self.interval.seconds or max(cost / self.share, 5.0)
        return now() - self.since >= wait

    def reset(self) -> None:
        self.since = now()
