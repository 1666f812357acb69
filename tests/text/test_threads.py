"""Threads change how long work on a text takes, and nothing else."""

import threading
import time
from collections.abc import Iterator

import pytest

from charlm.text.threads import MOST, in_threads


def test_results_come_in_the_order_of_the_pieces() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number**2

    assert list(in_threads(slow_first, range(40))) == [number**2 for number in range(40)]


def test_no_more_than_a_few_pieces_are_read_ahead() -> None:
    taken = 0

    def pieces() -> Iterator[int]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield taken

    for done, _ in enumerate(in_threads(str, pieces())):
        assert taken <= done + MOST + 1


def test_a_failure_comes_in_its_turn_and_leaves_no_thread() -> None:
    before = threading.active_count()
    results = in_threads(lambda number: 1 / number, [2, 1, 0, 1])
    assert [next(results), next(results)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before


def test_whoever_stops_listening_leaves_no_thread() -> None:
    before = threading.active_count()
    results = in_threads(str, range(1000))
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
