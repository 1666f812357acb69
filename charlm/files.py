"""Atomic writing: whatever happens meanwhile, a file has its old content or its new one. Reading within bounds."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from charlm.errors import CharlmError, RunError

LARGEST_JSON = 100_000_000  # bytes; the vocabulary of a million words has a fifth of that


def in_shell(path: Path) -> str:
    """A path as it is typed in a shell, on Windows that of cmd.exe."""
    text = path.as_posix()
    if sys.platform == "win32":
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


def bounded(path: Path) -> bytes:
    """The content of a file that may come from anywhere, such as JSON.

    Raises `RunError` for a file of absurd size or none at all, such as a pipe, and `OSError` if it cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise RunError(f"{path} is no file")
    if about.st_size > LARGEST_JSON:
        raise RunError(f"{path} is damaged: no such file has {about.st_size:,} bytes")
    return path.read_bytes()


def shipped(name: str) -> Path:
    """The folder of this name that comes with charlm: inside the installed package, and beside it in a checkout."""
    package = Path(__file__).parent
    folders = [folder / name for folder in (package, package.parent)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


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
        flush(temporary)
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


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to write to, which becomes `path` in the end, its files flushed to the disk; else nothing stays.

    Raises `RunError` if that cannot be written, or if something was at `path` that is not `free`.
    """
    beside = path.parent / f".{path.name}.{os.urandom(6).hex()}.tmp"
    try:
        beside.mkdir(parents=True)
        yield beside
        for file in beside.iterdir():
            flush(file)
        flush_folder(beside)
        if path.is_dir():
            path.rmdir()  # it is empty, and Windows would not replace it
        beside.rename(path)
        flush_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from None
    except RunError as error:
        raise RunError(str(error).replace(str(beside), str(path))) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def free(path: Path) -> bool:
    """Whether `new_folder` may make this folder: nothing is there, or an empty folder."""
    if not os.path.lexists(path):
        return True
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def link(path: Path, target: Path) -> None:
    """Make `target` a hard link to `path`, which must never be changed in place, or a copy where there are no links."""
    with replacing(target) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def flush(path: Path) -> None:
    """Flush the content of a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that a renaming survives a power failure; not on Windows."""
    with suppress(OSError):  # Windows cannot open a folder
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
