"""What several test files need and what takes a while to make is made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock


@contextmanager
def shared(name: str, factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for all processes that run these tests; one at a time is in here, and the first finds it empty."""
    root = factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / f"shared-{name}"
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        yield folder
