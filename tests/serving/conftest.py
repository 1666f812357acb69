"""Servers that the tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Running, running

import charlm
from charlm.writer import Writer


@pytest.fixture(scope="module")
def lstm(trained: Path) -> Writer:
    return charlm.load(trained)


@pytest.fixture(scope="module")
def transformer(windowed: Path) -> Writer:
    return charlm.load(windowed)


@pytest.fixture(scope="module")
def server(lstm: Writer, transformer: Writer) -> Iterator[Running]:
    """Of two runs: a, an LSTM without a window, and b, a transformer with one of 32 tokens."""
    with running(lstm, transformer) as made:
        yield made
