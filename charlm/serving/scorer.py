"""What reads with a run: it scores and looks inside, and all that is asked of it goes on in turn."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from typing import TypeVar

from charlm.progress import Progress
from charlm.serving.engine import BusyError
from charlm.serving.worker import Worker

R = TypeVar("R")


class Scorer:
    """Works in a worker's turns."""

    def __init__(self, worker: Worker, *, waiting: int = 64) -> None:
        """`waiting` pieces of work wait for their turn at most, beside the one that has it."""
        self.worker, self.most_waiting = worker, waiting
        self.works: deque[Iterator[None]] = deque()  # the next turn is the first one's
        self.count = 0  # pieces of work that are not finished
        self.at_work, self.lock = False, threading.Lock()

    async def result(self, work: Generator[Progress, None, R]) -> R:
        """What comes of some work; when this is cancelled, so is the work.

        Raises `BusyError` if too much work waits, and as the work does.
        """
        if self.count > self.most_waiting:
            raise BusyError(self.count, max(1, math.ceil(self.count / 8)))
        done = Future[R]()
        self.count += 1
        try:
            with self.lock:
                self.works.append(finishing(work, done))
                if not self.at_work:
                    self.at_work = True
                    self.worker.begin(self.turns())
            return await asyncio.wrap_future(done)
        finally:
            self.count -= 1

    def turns(self) -> Iterator[None]:
        """A turn of each piece of work after the other, until all are finished."""
        while True:
            with self.lock:
                self.at_work = bool(self.works)
                if not self.at_work:
                    return
                turns = self.works.popleft()
            if next(turns, self) is not self:
                with self.lock:
                    self.works.append(turns)
            yield


def finishing(work: Generator[Progress, None, R], done: Future[R]) -> Iterator[None]:
    """Turns of some work, until its result is there or nobody waits for it."""
    try:
        while not done.cancelled():
            next(work)
            yield
    except StopIteration as end:
        if done.set_running_or_notify_cancel():
            done.set_result(end.value)
    except BaseException as error:
        if done.set_running_or_notify_cancel():
            done.set_exception(error)
    finally:
        work.close()
