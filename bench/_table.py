"""Shared by all measurements: the best speed of several rounds, and a table that can be saved as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option `--json`, described by the first line of `description`."""
    result = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    result.add_argument("--json", type=Path, help="write the table as JSON too")
    return result


def machine(device: str = "cpu") -> str:
    """The processor, versions and today's date."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"


def rate(work: Callable[[], object], *, seconds: float = 1.0, rounds: int = 3) -> float:
    """Calls of `work` per second: the best of several rounds, because other programs can only make it slower."""
    work()
    wait()
    best = 0.0
    for _ in range(rounds):
        calls, began = 0, time.perf_counter()
        while not calls or time.perf_counter() - began < seconds / rounds:
            work()
            calls += 1
        wait()
        best = max(best, calls / (time.perf_counter() - began))
    return best


def wait() -> None:
    """Until a GPU has done all that it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def show(rows: Iterable[Row], columns: Sequence[str], path: Path | None, *, title: str) -> None:
    """Print rows as a Markdown table, and save all of them to `path`, as they come; `title` is the machine."""
    print(f"{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    done = []
    for row in rows:
        done.append(row)
        print("|", " | ".join(cell(row.get(column, "")) for column in columns), "|", flush=True)
        if path:
            path.write_text(json.dumps({"machine": title, "rows": done}, indent=1) + "\n", encoding="utf-8")


def cell(value: Any) -> str:
    """Numbers have three significant digits, or all digits before the point."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
