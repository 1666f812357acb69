"""`charlm watch`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from charlm.cli.options import Json, Run
from charlm.cli.pictures import present
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.views.console import count, duration, out, sample_panel

INTERVAL = 1.0  # seconds between two updates
TAIL = 20_000  # bytes of samples.txt that are read


def watch(
    run: Run = "last",
    once: Annotated[bool, typer.Option("--once", help="show how it stands and end")] = False,
    json: Json = False,
) -> None:
    path = folder.find(run)
    if json or once or not out.is_terminal or not folder.is_locked(path):
        present(view(path), partial(state, path), json=json)
        return
    with Live(view(path), console=out, screen=False, auto_refresh=False) as live:
        while folder.is_locked(path):
            time.sleep(INTERVAL)
            live.update(view(path), refresh=True)


def state(path: Path) -> dict[str, Any]:
    """The state of a training, as JSON. Of one that runs, progress is extrapolated from the last save."""
    from charlm.comparing.rows import curve_of

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


def view(path: Path) -> RenderableType:
    from charlm.comparing.rows import curve_of
    from charlm.views.curves import curves

    current, info = state(path), folder.info(path)
    parts: list[RenderableType] = [Text(headline(info, current))]
    points = curve_of(info, info.measure)
    if len(points) > 1:
        parts.append(curves({info.config["arch"]: [points]}, info.measure, "time", height=12))
    if current["sample"]:
        parts.append(sample_panel(current["sample"], taken=18))
    return Group(*parts)


def headline(info: RunInfo, current: dict[str, Any]) -> str:
    parts = [f"{info.path}: {info.config['arch']}, {count(info.config['params'])} parameters, {current['state']}"]
    parts.append(f"{current['progress']:.0%} in {duration(current['seconds'])}")
    if current["tokens_per_second"]:
        parts.append(f"{count(current['tokens_per_second'])} tokens/s")
    if info.best:
        parts.append(f"best {info.best.value:.4f} {info.measure.unit}")
    if current["seconds_left"] is not None:
        parts.append(f"about {duration(current['seconds_left'])} left")
    return ", ".join(parts)


def latest_sample(path: Path) -> str:
    """The last sample in samples.txt; empty if there is none."""
    file = path / "samples.txt"
    if not file.exists():
        return ""
    with folder.plain_file(file).open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL))
        text = opened.read().decode("utf-8", "replace")
    return text.rpartition("--- step ")[2].partition("\n")[2]
