"""The training clock, and timers for validations, checkpoints and samples."""

from __future__ import annotations

from time import perf_counter as now  # tests replace it

from charlm.interval import Interval


class Clock:
    """A stopwatch of training steps: `--minutes`, speeds and learning curves all count its seconds.

    A training step starts it. It is stopped during validations, samples and checkpoints, and until a run is resumed.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.stopped_at = seconds  # seconds at the last stop
        self.started: float | None = None  # time of the start; None while it is stopped

    @property
    def seconds(self) -> float:
        return self.stopped_at + (0.0 if self.started is None else now() - self.started)

    def start(self) -> None:
        """Start, unless it is running."""
        if self.started is None:
            self.started = now()

    def stop(self) -> None:
        """Stop, unless it is stopped."""
        self.stopped_at, self.started = self.seconds, None


class Timer:
    """Says when a repeated job is due: every so many steps or seconds, or, automatically, so often that the job takes
    `share` of the time."""

    def __init__(self, interval: Interval, share: float = 0.0) -> None:
        self.interval, self.share = interval, share
        self.last = now()

    def due(self, step: int, cost: float = 0.0) -> bool:
        """Whether a job that takes `cost` seconds is due after this step."""
        if self.interval.steps:
            return step % self.interval.steps == 0
        wait = self.interval.seconds or max(cost / self.share, 5.0)
        return now() - self.last >= wait

    def reset(self) -> None:
        """Count from now."""
        self.last = now()
