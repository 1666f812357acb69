"""Atomic writing: whatever happens meanwhile, a file has its old content or its new one."""

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
    """Yields a temporary path to write to; at the end that file is flushed to the disk and renamed to `path`.

    The old file becomes `keep`, if that is given. Raises `error`, with the `hint` at its end, if the disk is full or
    read-only, and leaves `path` as it was. Only a process that is killed leaves a temporary file, `.NAME.*.tmp`.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if keep and path.exists():
            link(path, keep)
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as cause:
        advice = f"; {hint}" if hint else ""
        raise error(f"{path} cannot be written: {cause.strerror or cause}{advice}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *, error: type[CharlmError], hint: str) -> Iterator[BinaryIO]:
    """As `replacing`, but yields the temporary file, open for writing."""
    with replacing(path, error=error, hint=hint) as temporary, temporary.open("wb") as file:
        yield file


def link(path: Path, target: Path) -> None:
    """Make `target` a hard link to `path`, which must never be changed in place, or a copy where there are no links."""
    with replacing(target) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that a renaming survives a power failure; not on Windows."""
    with suppress(OSError):  # Windows cannot open a folder
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
