"""Work on the pieces of a text, several at the same time, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

MOST = 8  # threads; each holds a piece and what becomes of it


def in_threads(work: Callable[[A], B], pieces: Iterable[A]) -> Iterator[B]:
    """`map(work, pieces)`, faster where `work` spends its time in NumPy, which lets other threads run meanwhile."""
    threads = min(MOST, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads)
    begun: deque[Future[B]] = deque()
    try:
        for piece in pieces:
            begun.append(pool.submit(work, piece))
            if len(begun) > threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
