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
from charlm.runs.standing import curve_of, standing
from charlm.views.console import count, duration, out, sample_panel

INTERVAL = 1.0  # seconds between two updates


def watch(
    run: Run = "last",
    once: Annotated[bool, typer.Option("--once", help="show how it stands and end")] = False,
    json: Json = False,
) -> None:
    path = folder.find(run)
    if json or once or not out.is_terminal or not folder.is_locked(path):
        present(view(path), partial(standing, path), json=json)
        return
    with Live(view(path), console=out, screen=False, auto_refresh=False) as live:
        while folder.is_locked(path):
            time.sleep(INTERVAL)
            live.update(view(path), refresh=True)


def view(path: Path) -> RenderableType:
    from charlm.views.curves import curves

    current, info = standing(path), folder.info(path)
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
