"""A thread that reads with a run: it scores and looks inside, one piece of work after the other."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from charlm.progress import Progress
from charlm.serving.engine import BusyError

R = TypeVar("R")


class Scorer:
    """Works until it is closed."""

    def __init__(self, name: str, *, waiting: int = 64) -> None:
        """`waiting` pieces of work wait at most, beside the one that is done."""
        self.thread, self.most_waiting = ThreadPoolExecutor(1, f"{name}-scores"), waiting
        self.count = 0  # pieces of work that are being done, or wait for that

    def close(self) -> None:
        self.thread.shutdown(cancel_futures=True)

    async def result(self, work: Generator[Progress, None, R]) -> R:
        """What comes of some work; when this is cancelled, so is the work.

        Raises `BusyError` if too much work waits, and as the work does.
        """
        if self.count > self.most_waiting:
            raise BusyError(self.count, max(1, math.ceil(self.count / 8)))
        stopped = threading.Event()

        def run() -> R:
            while not stopped.is_set():
                try:
                    next(work)
                except StopIteration as end:
                    result: R = end.value
                    return result
            raise asyncio.CancelledError

        self.count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, run)
        finally:
            stopped.set()
            self.count -= 1
