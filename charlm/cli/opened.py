"""Opening the run that a command works with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.errors import CharlmError, SettingsError
from charlm.runs.opening import Opening

if TYPE_CHECKING:
    from charlm.writer import Writer

OPENING = {"Opening the run": Opening}  # the panel of the help pages


def run_and(names: Sequence[str], noun: str) -> tuple[str, str]:
    """Of arguments `[RUN] NOUN` both, the run being the last one by default. Raises `SettingsError` for more."""
    if len(names) > 2:
        raise SettingsError(f"one run and one {noun}, got {len(names)}: {' '.join(names)}")
    return (names[0], names[1]) if len(names) == 2 else ("last", names[0])


@contextmanager
def errors_name_run(run: str, path: Path) -> Iterator[None]:
    """Adds the path to an error with a run that was given as `last` or `best`."""
    try:
        yield
    except CharlmError as error:
        if run not in ("last", "best") or str(path) in str(error):
            raise
        raise error.at(str(path)) from None


@contextmanager
def open_run(run: str, path: Path, opening: Opening) -> Iterator[Writer]:
    """The run at `path`, which was given as `run`."""
    from charlm.writer import Writer  # torch is imported only when a model is needed

    with errors_name_run(run, path):
        yield Writer.load(path, opening)
