"""The course of a training, metrics.jsonl, as CSV. Imports no torch."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from charlm.errors import RunError
from charlm.runs import folder

WHERE = ("step", "tokens", "seconds")  # how far the training was, first in a line


def lines(run: Path) -> list[dict[str, Any]]:
    """What was noted at each validation, in order. Raises `RunError` for a run without any."""
    noted = [entry for entry, _ in folder.metrics(run)]
    if not noted:
        raise RunError(f"{run} has no metrics.jsonl, or an empty one: nothing was validated or noted yet")
    return noted


def write_csv(entries: Iterable[dict[str, Any]], file: IO[str]) -> None:
    """A line per validation; a field that one lacks is empty."""
    entries = list(entries)
    others = dict.fromkeys(
        name for entry in entries for name, value in entry.items() if not isinstance(value, dict | list)
    )
    columns = [*WHERE, *(name for name in others if name not in WHERE)]
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
