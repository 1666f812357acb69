"""What all measurements share: a clock that looks for the best, and a table that is also JSON."""

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


def parser(about: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    made.add_argument("--json", type=Path, help="write the table as JSON too")
    return made


def machine(device: str = "cpu") -> str:
    what = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{what}, torch {torch.__version__}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"


def rate(work: Callable[[], object], *, seconds: float = 1.0, rounds: int = 3) -> float:
    """Calls per second: the best of some rounds, because other programs only ever make it slower."""
    work()
    best = 0.0
    for _ in range(rounds):
        calls, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds / rounds:
            work()
            calls += 1
        best = max(best, calls / spent)
    return best


def show(rows: Iterable[Row], columns: Sequence[str], path: Path | None, *, where: str) -> None:
    """Print rows as a Markdown table while they come; numbers with three significant digits."""
    print(f"{where}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    done = []
    for row in rows:
        done.append(row)
        print("|", " | ".join(cell(row.get(column, "")) for column in columns), "|", flush=True)
    if path:
        path.write_text(json.dumps({"machine": where, "rows": done}, indent=1) + "\n", encoding="utf-8")


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
