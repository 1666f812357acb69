"""Deleting and renaming runs: what is being trained, is needed, or is no run stays as it is. Imports no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from charlm.errors import RunError
from charlm.runs import folder

FILES = (  # of a run, config.json last: a deletion that was interrupted is done by the same command
    "tokenizer.json",
    "model.safetensors",
    "last.safetensors",
    "training.safetensors",
    "previous.safetensors",
    "training.json",
    "metrics.jsonl",
    "samples.txt",
    ".lock",
    "config.json",
)
COMPARISON = "compare.json"


def refuse_unsafe(runs: Sequence[Path]) -> None:
    """Raise `RunError` unless all of these, which nothing trains, are runs and may go from where they are."""
    for run in runs:
        if run.is_symlink():
            raise RunError(f"{run} is a link to {run.resolve()}; name the run itself")
        folder.info(run)
        with folder.locked(run):
            pass
    for student, teacher in unfinished_students():
        if any(same(teacher, run) for run in runs) and not any(same(student, run) for run in runs):
            raise RunError(
                f"{student} is unfinished and learns from {teacher}; finish it first: it cannot go on without that"
            )


def unfinished_students() -> Iterator[tuple[Path, Path]]:
    """(run, its teacher) of the runs under `runs/` that cannot be resumed without that."""
    for info in folder.list_runs():
        teacher = info.config["objective"].get("distill", {}).get("teacher")
        if teacher and not info.training.get("finished"):
            yield info.path, Path(teacher)


def same(one: Path, other: Path) -> bool:
    """Whether both are the same folder."""
    return one.resolve() == other.resolve()


def own_files(run: Path) -> list[Path]:
    """The files in a run's folder that a training made."""
    made = [*run.glob(".*.tmp"), *(run / name for name in FILES)]
    return [path for path in made if path.is_symlink() or path.is_file()]


def freed(paths: Collection[Path]) -> int:
    """How many bytes a disk has more without these files; what has other names besides stays on it."""
    about = [path.lstat() for path in paths]
    names = Counter((stat.st_dev, stat.st_ino) for stat in about)
    files = {(stat.st_dev, stat.st_ino): stat for stat in about}
    return sum(stat.st_size for file, stat in files.items() if names[file] >= stat.st_nlink)


def delete(run: Path) -> list[str]:
    """Delete a run's own files, and its folder if that is then empty; returns the names of what else is in it."""
    with folder.locked(run):
        for path in own_files(run):
            if path.name not in (".lock", "config.json"):
                path.unlink(missing_ok=True)
    for name in ("config.json", ".lock"):
        (run / name).unlink(missing_ok=True)
    others = sorted(path.name for path in run.iterdir())
    if not others:
        with suppress(OSError):  # it may be where this process stands, or a mount
            run.rmdir()
    return others


def rename(run: Path, name: str) -> Path:
    """Give a run's folder another name beside it; returns the new path.

    Raises `RunError` if something has that name, or the run belongs to a comparison, which knows it by its name.
    """
    if name in ("", ".", "..", "last", "best", "-") or Path(name).name != name or "\\" in name or name.startswith("-"):
        raise RunError(f"{name!r} cannot be a run's name: give one without / that is neither last nor best")
    path = run.resolve()
    target = path.with_name(name)
    if os.path.lexists(target):
        raise RunError(f"{run.with_name(name)} exists already; give another name")
    if (path.parent / COMPARISON).exists():
        raise RunError(f"{run} belongs to the comparison {path.parent.name}, which knows it by its name")
    refuse_unsafe([run])
    try:
        path.rename(target)
    except OSError as error:
        raise RunError(f"{run} cannot be renamed: {error.strerror}") from None
    return run.with_name(name) if run.name else target
