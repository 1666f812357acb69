"""How a training stands, from the files of its run: its learning curve, its speed, the time left. Imports no torch."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.score import Measure

TAIL = 20_000  # bytes of samples.txt that are read


class Point(NamedTuple):
    """One validation of one training."""

    seconds: float
    tokens: int  # trained on so far
    step: int
    value: float  # score, in the measure of the run

    def named(self, measure: Measure) -> dict[str, Any]:
        """The fields as a dict, with the value under the measure's name."""
        return {name if name != "value" else measure.name: value for name, value in self._asdict().items()}


def curve_of(run: RunInfo, measure: Measure) -> list[Point]:
    """The validations in a run's metrics.jsonl; damaged lines are left out."""
    points = []
    for entry, _ in folder.metrics(run.path):
        with suppress(ValueError, KeyError, TypeError):
            seconds, step, value = float(entry["seconds"]), entry["step"], float(entry[measure.name])
            if math.isfinite(value):
                points.append(Point(seconds, int(entry["tokens"]), step, value))
    return points


def standing(path: Path) -> dict[str, Any]:
    """The state of a training, as JSON. Of one that runs, progress is extrapolated from the last save."""
    info, running = folder.info(path), folder.is_locked(path)
    training, measure = info.training, info.measure
    progress, seconds = training.get("progress", 0.0), training.get("seconds", 0.0)
    if running and progress:
        # resuming writes config.json, saving training.json
        saved = max((path / name).stat().st_mtime for name in ("training.json", "config.json"))
        total = seconds / progress
        seconds = min(total, seconds + max(0.0, time.time() - saved))
        progress = seconds / total
    remaining = seconds / progress - seconds if running and progress else None
    return {
        "run": str(path),
        "state": "training" if running else "finished" if training.get("finished") else "stopped",
        "progress": progress,
        "seconds": seconds,
        "seconds_left": remaining,
        "tokens_per_second": training["tokens"] / training["seconds"] if training.get("seconds") else None,
        f"best_{measure.name}": info.best.value if info.best else None,
        "curve": [point.named(measure) for point in curve_of(info, measure)],
        "sample": latest_sample(path),
    }


def latest_sample(path: Path) -> str:
    """The last sample in samples.txt; empty if there is none."""
    file = path / "samples.txt"
    if not file.exists():
        return ""
    with folder.plain_file(file).open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL))
        text = opened.read().decode("utf-8", "replace")
    return text.rpartition("--- step ")[2].partition("\n")[2]
