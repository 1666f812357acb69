"""Quality per minute on Tiny Shakespeare: trains with the defaults through the command line, then one exact pass.

    python bench/quality.py tinyshakespeare.txt [--only lstm,transformer] [--out quality.json]

nanoGPT's split (the last 10 % is the validation text). One run after the other: two at once would share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Goal(NamedTuple):
    arch: str
    minutes: float
    nats: float  # per character, to be reached or beaten


GOALS = [
    Goal("lstm", 20 / 60, 1.90),
    Goal("transformer", 40 / 60, 1.90),
    Goal("lstm", 1.5, 1.52),
    Goal("transformer", 1.5, 1.75),
    Goal("seq2seq", 3.0, 1.90),
    Goal("lstmcell", 3.0, 1.65),
]


def charlm(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "charlm", *words], check=True, capture_output=True, text=True).stdout


def measure(goal: Goal, text: Path, folder: Path) -> dict[str, Any]:
    """Train with nothing but the budget and the split given, and score the whole validation text."""
    run = folder / f"{goal.arch}-{goal.minutes:.2f}"
    began = time.monotonic()
    budget = ["--minutes", f"{goal.minutes:.4f}", "--val-frac", "0.1", "--test-frac", "0"]
    charlm("train", str(text), "--arch", goal.arch, *budget, "--out", str(run), "--quiet")
    elapsed = time.monotonic() - began
    score = json.loads(charlm("eval", str(run), "--json"))
    training = json.loads((run / "training.json").read_text())
    return {
        "arch": goal.arch,
        "seconds": round(60 * goal.minutes),
        "goal": goal.nats,
        "nats_per_char": round(score["nats_per_char"], 4),
        "params": score["params"],
        "chars_per_second": round(training["tokens"] / training["seconds"]),
        "whole_command_seconds": round(elapsed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--only", default="", help="architectures, with commas between")
    parser.add_argument("--out", type=Path, help="write the table as JSON too")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [goal.arch for goal in GOALS]
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    print("| architecture | seconds | nats/char | goal | parameters | chars/s |\n|---|--:|--:|--:|--:|--:|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for goal in GOALS:
            if goal.arch in wanted:
                row = measure(goal, options.text, Path(folder))
                rows.append(row)
                met = "" if row["nats_per_char"] <= goal.nats else " (missed)"
                cells = [row["arch"], row["seconds"], row["nats_per_char"], f"{goal.nats:.2f}{met}"]
                print("|", " | ".join(map(str, [*cells, row["params"], row["chars_per_second"]])), "|", flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
