"""Which files are meant: by a path, a folder, a pattern or - for standard input, which is copied to be read again."""

from __future__ import annotations

import difflib
import glob
import os
import re
import shlex
import shutil
import sys
import tempfile
import weakref
from collections import Counter
from pathlib import Path
from typing import NoReturn

from charlm.errors import CorpusError

TEXT_FILE = re.compile(r"[^.].*\.(txt|text|md)(\.gz)?", re.IGNORECASE | re.DOTALL)


class Copies(dict[Path, Path]):
    """Temporary copies of what can be read only once: standard input and pipes. They are deleted with this object."""

    def add(self, path: Path) -> None:
        handle, copy = tempfile.mkstemp(prefix="charlm-", suffix=".txt")
        self[path] = Path(copy)
        weakref.finalize(self, self[path].unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as target:
            if str(path) == "-":
                shutil.copyfileobj(sys.stdin.buffer, target)
            else:
                with path.open("rb") as pipe:
                    shutil.copyfileobj(pipe, target)


def find(given: str, copies: Copies, notes: list[str]) -> list[Path]:
    """The files that one argument means, never none. What can be read only once is added to `copies`."""
    path = Path(given)
    if path.is_dir():
        files, others = _files_in(path, notes)
        missing = f".txt, .text or .md file; {others}" if others else "file"
        return files or _nothing(f"the folder {path} holds no {missing}")
    if path.is_file():
        return [path]
    if given == "-" or path.exists():  # the latter a pipe, as in `charlm train <(command)`
        if path not in copies:
            copies.add(path)
        return [path]
    if re.search(r"[*?[]", given):
        matches = [Path(match) for match in sorted(glob.glob(given, recursive=True))]
        files = [file for match in matches for file in (_files_in(match, notes)[0] if match.is_dir() else [match])]
        return files or _nothing(f"no file matches {given}")
    from charlm.text.catalogue import at_hand  # its import takes a moment, and is for this alone

    if here := at_hand(given):
        return _nothing(f"there is no file {given} here; the one that comes with charlm is {here}")
    siblings = os.listdir(path.parent) if path.parent.is_dir() else []
    similar = difflib.get_close_matches(path.name, siblings, n=1)
    return _nothing(f"there is no file {given}" + (f"; did you mean {path.parent / similar[0]}?" if similar else ""))


def _nothing(message: str) -> NoReturn:
    raise CorpusError(message)


def _files_in(folder: Path, notes: list[str]) -> tuple[list[Path], str]:
    """The text files in `folder` and below, sorted, and how to read the others, which is noted where some are read.

    What is hidden, and what runs have written themselves, is neither.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    for place, subfolders, files in os.walk(folder, onerror=_raise):
        if {"config.json", "tokenizer.json"} <= set(files):
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        seen = [name for name in files if not name.startswith(".")]
        texts = [name for name in seen if TEXT_FILE.fullmatch(name)]
        found += [Path(place, name) for name in texts]
        others.update("".join(Path(name).suffixes[-1:]) for name in set(seen) - {*texts})
    if not others:
        return sorted(found), ""
    most = max(others, key=lambda suffix: (bool(suffix), others[suffix]))
    pattern = shlex.quote(str(Path(glob.escape(str(folder)), "**", f"*{most}")))
    rest = f"others are read with a pattern: {pattern}"
    if found:
        every = len(found) + sum(others.values())
        notes.append(f"{len(found)} of {every} files in {folder} are read, .txt, .text and .md; {rest}")
    return sorted(found), rest


def _raise(error: OSError) -> NoReturn:
    raise error


def name_of(given: str, first: Path) -> str:
    """What to call a text: `stdin`, the folder's name, or the first file's stem."""
    if given == "-":
        return "stdin"
    if Path(given).is_dir():
        return Path(given).resolve().name or "text"
    return (first.with_suffix("") if first.suffix.lower() == ".gz" else first).stem
