"""One thread computes for all; pieces of work share its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from charlm.serving.worker import Worker


def spinning(seconds: float, until: float) -> Iterator[float]:
    """Turns of so many seconds, until the clock says so."""
    while time.perf_counter() < until:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        yield seconds


def test_work_with_long_turns_gets_no_more_time_than_work_with_short_ones() -> None:
    had, finished = {0.0002: 0.0, 0.02: 0.0}, threading.Semaphore(0)

    def counted(seconds: float, until: float) -> Iterator[None]:
        for one in spinning(seconds, until):
            had[seconds] += one
            yield
        finished.release()

    with Worker() as worker:
        end = time.perf_counter() + 1
        for seconds in had:
            worker.begin(counted(seconds, end))
        for _ in had:
            assert finished.acquire(timeout=20)
    short, long = had.values()
    assert short == pytest.approx(long, rel=0.5)


def test_a_result_is_computed_in_the_thread_and_an_error_comes_back() -> None:
    with Worker() as worker:
        assert worker.result(threading.current_thread) is worker.thread
        with pytest.raises(ValueError, match="no such thing"):
            worker.result(lambda: int("no such thing"))
        assert worker.result(lambda: 3) == 3


def test_it_ends_with_work_unfinished() -> None:
    begun = threading.Event()

    def endless() -> Iterator[None]:
        while True:
            begun.set()
            yield

    with Worker() as worker:
        worker.begin(endless())
        assert begun.wait(20)
    assert not worker.thread.is_alive()


def test_an_error_ends_its_own_work_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> Iterator[None]:
        yield
        raise RuntimeError("the disk is on fire")

    with Worker() as worker:
        worker.begin(fails())
        assert worker.result(lambda: 3) == 3
        assert worker.result(lambda: 4) == 4
    assert "the disk is on fire" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="closed"):
        worker.begin(fails())
