"""The thread that computes. Pieces of work take turns in it, and get equal shares of its time."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

SLICE = 0.005  # seconds of turns, at least, before another piece of work may take some
PATIENCE = 3.0  # seconds for which a closed worker may still take its turn
END = object()

R = TypeVar("R")


@dataclass(eq=False)
class Work:
    turns: Iterator[object]
    seconds: float  # of the thread that it has had


class Worker:
    """One thread for whatever a process computes beside its main thread, until it is closed.

    With several threads each would get a team of OpenMP threads from PyTorch, and teams that are more than the cores
    sleep between two operations: steps of a few milliseconds then take two to three times as long. So nothing may be
    computed elsewhere, not even while models are opened: `result` does that.
    """

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.closed = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self.run, name="charlm-worker", daemon=True)
        self.thread.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop after the turn that is being taken, for which nobody waits long."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        self.thread.join(PATIENCE)

    def begin(self, turns: Iterator[object]) -> None:
        """Take all these turns. An error in one, which is a bug, ends them; its traceback goes to standard error."""
        with self.changed:
            if self.closed:
                raise RuntimeError("this worker is closed")
            self.works.append(Work(turns, min((work.seconds for work in self.works), default=0.0)))
            self.changed.notify()

    def result(self, function: Callable[[], R]) -> R:
        """What a function returns that is called in the thread. Raises what it raises."""
        done = Future[R]()

        def turn() -> Iterator[None]:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)
            yield

        self.begin(turn())
        return done.result()

    def run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or self.works)
                if self.closed:
                    return
                work = min(self.works, key=lambda work: work.seconds)
            began, seconds, unfinished = time.perf_counter(), 0.0, True
            while unfinished and seconds < SLICE and not self.closed:
                unfinished = has_turn(work.turns)
                seconds = time.perf_counter() - began
            work.seconds += seconds
            if not unfinished:
                with self.changed:
                    self.works.remove(work)


def has_turn(turns: Iterator[object]) -> bool:
    """Take a turn; whether there was one."""
    try:
        return next(turns, END) is not END
    except Exception:
        traceback.print_exc()
        return False
