"""The course of a training as an event file of TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from charlm.errors import SettingsError
from charlm.exporting.curves import lines
from charlm.files import free, new_folder


def write_events(run: Path, target: Path) -> None:
    """The folder `target`, which must not hold anything, with an event file: a curve per figure, by step, and by time
    as the training's clock has it. Raises `SettingsError` if something is there."""
    if not free(target):
        raise SettingsError(f"{target} exists already; move it away, or name another folder")
    entries = lines(run)
    with new_folder(target) as beside, SummaryWriter(str(beside)) as events:
        for entry in entries:
            for name, value in figures(entry):
                events.add_scalar(name, value, entry["step"], walltime=entry.get("seconds", 0.0))


def figures(entry: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What of a line is a curve: its numbers."""
    for name, value in entry.items():
        if isinstance(value, Real) and not isinstance(value, bool) and name != "step" and math.isfinite(value):
            yield name, float(value)
