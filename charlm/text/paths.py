"""The files that an argument names: a path, a folder, a glob pattern, or - for standard input, which is copied."""

from __future__ import annotations

import difflib
import glob
import os
import re
import shutil
import sys
import tempfile
import weakref
from collections import Counter
from pathlib import Path
from typing import NoReturn

from charlm.errors import CorpusError
from charlm.files import in_shell

TEXT_FILE = re.compile(r"[^.].*\.(txt|text|md)(\.gz)?", re.IGNORECASE | re.DOTALL)


class Copies(dict[Path, Path]):
    """Temporary copies of what can be read only once: standard input and pipes. They are deleted with this object."""

    def add(self, path: Path) -> None:
        """Read `path` to its end, into a new copy."""
        handle, copy = tempfile.mkstemp(prefix="charlm-", suffix=".txt")
        self[path] = Path(copy)
        weakref.finalize(self, self[path].unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as target:
            if str(path) == "-":
                shutil.copyfileobj(sys.stdin.buffer, target)
            else:
                with path.open("rb") as pipe:
                    shutil.copyfileobj(pipe, target)


def find(argument: str, copies: Copies, notes: list[str]) -> list[Path]:
    """The files that one argument names, at least one. What can be read only once is added to `copies`.

    Raises `CorpusError` if there is none, with a name that was perhaps meant.
    """
    path = Path(argument)
    if path.is_dir():
        files, advice = _files_in(path, notes)
        missing = f".txt, .text or .md file; {advice}" if advice else "file"
        return files or _refuse(f"the folder {path} holds no {missing}")
    if path.is_file():
        return [path]
    if argument == "-" or path.exists():  # the latter a pipe, as in `charlm train <(command)`
        if path not in copies:
            copies.add(path)
        return [path]
    if re.search(r"[*?[]", argument):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]
        files = [file for match in matches for file in (_files_in(match, notes)[0] if match.is_dir() else [match])]
        return files or _refuse(f"no file matches {argument}")
    from charlm.text.catalogue import ENTRIES, bundled_path  # imported only when needed, as it takes a moment

    if bundled := bundled_path(argument):
        return _refuse(
            f"there is no file {argument} here; the one that comes with charlm is {bundled}, and "
            f"charlm corpus fetch {bundled.stem} copies it"
        )
    if path.stem in [entry.name for entry in ENTRIES]:
        return _refuse(f"there is no file {argument} here; charlm corpus fetch {path.stem} downloads it")
    siblings = os.listdir(path.parent) if path.parent.is_dir() else []
    similar = difflib.get_close_matches(path.name, siblings, n=1)
    return _refuse(f"there is no file {argument}" + (f"; did you mean {path.parent / similar[0]}?" if similar else ""))


def _refuse(message: str) -> NoReturn:
    raise CorpusError(message)


def _files_in(folder: Path, notes: list[str]) -> tuple[list[Path], str]:
    """(the text files in `folder` and below, sorted; what to type to read its other files, "" if it has none).

    Hidden files and the folders of runs do not count. If some files are read and others not, `notes` says so.
    """
    read: list[Path] = []
    others: Counter[str] = Counter()  # by suffix
    for parent, subfolders, files in os.walk(folder, onerror=_raise):
        if {"config.json", "tokenizer.json"} <= set(files):  # a run
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        visible = [name for name in files if not name.startswith(".")]
        texts = [name for name in visible if TEXT_FILE.fullmatch(name)]
        read += [Path(parent, name) for name in texts]
        others.update("".join(Path(name).suffixes[-1:]) for name in set(visible) - {*texts})
    if not others:
        return sorted(read), ""
    commonest = max(others, key=lambda suffix: (bool(suffix), others[suffix]))
    pattern = in_shell(Path(glob.escape(str(folder)), "**", f"*{commonest}"))
    advice = f"others are read with a pattern: {pattern}"
    if read:
        total = len(read) + sum(others.values())
        notes.append(f"{len(read)} of {total} files in {folder} are read, .txt, .text and .md; {advice}")
    return sorted(read), advice


def _raise(error: OSError) -> NoReturn:
    raise error


def name_of(argument: str, first: Path) -> str:
    """A short name for the text: `stdin`, the folder's name, or the stem of its `first` file."""
    if argument == "-":
        return "stdin"
    if Path(argument).is_dir():
        return Path(argument).resolve().name or "text"
    return (first.with_suffix("") if first.suffix.lower() == ".gz" else first).stem
