"""Files that are either old or whole, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from charlm.errors import CharlmError, RunError


@contextmanager
def replacing(
    path: Path, *, keep: Path | None = None, error: type[CharlmError] = RunError, hint: str = ""
) -> Iterator[Path]:
    """A path of its own to write to; what was written reaches the disk, and only then takes the place of `path`.

    What `path` held before becomes `keep`. Raises `error`, which ends with the `hint`, and leaves what was there, if
    the disk is full or may not be written to. Only a process that is killed leaves rubbish: `.NAME.*.tmp`.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        if keep and path.exists():
            second_name(path, keep)
        beside.replace(path)
        flush_names(path.parent)
    except OSError as wrong:
        advice = f"; {hint}" if hint else ""
        raise error(f"{path} cannot be written: {wrong.strerror or wrong}{advice}") from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *, error: type[CharlmError], hint: str) -> Iterator[BinaryIO]:
    """As `replacing`, opened for writing."""
    with replacing(path, error=error, hint=hint) as beside, beside.open("wb") as file:
        yield file


def second_name(path: Path, to: Path) -> None:
    """For a file that is only ever replaced, never written into; a copy where the system has no second names."""
    with replacing(to) as beside:
        try:
            os.link(path, beside)
        except OSError:
            shutil.copyfile(path, beside)


def flush_names(path: Path) -> None:
    """Let the renaming of files in a folder reach the disk, where the system knows how."""
    with suppress(OSError):  # Windows opens no folders
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
