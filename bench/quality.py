"""Quality per minute on Tiny Shakespeare: trains with the defaults through the command line, then one exact pass.

    python -m bench quality tinyshakespeare.txt [--only lstm,transformer] [--json quality.json]

nanoGPT's split (the last 10 % is the validation text). One run after the other: two at once would share the cores.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench._table import Row, machine, parser, show


class Goal(NamedTuple):
    arch: str
    minutes: float
    nats: float  # per character, to be reached or beaten


GOALS = [
    Goal("lstm", 100 / 60, 1.50),
    Goal("lstm", 5, 1.45),
    Goal("lstm", 30, 1.41),
    Goal("transformer", 100 / 60, 1.65),
    Goal("transformer", 5, 1.55),
    Goal("transformer", 30, 1.48),
    Goal("lstm", 20 / 60, 1.90),
    Goal("transformer", 40 / 60, 1.90),
    Goal("lstm", 1.5, 1.52),
    Goal("transformer", 1.5, 1.75),
    Goal("seq2seq", 3.0, 1.90),
    Goal("lstmcell", 3.0, 1.65),
]


def charlm(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "charlm", *words], check=True, capture_output=True, text=True).stdout


def measure(goal: Goal, text: Path, folder: Path) -> Row:
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
        "nats_per_char": f"{score['nats_per_char']:.4f}",
        "met": "yes" if score["nats_per_char"] <= goal.nats else "no",
        "params": score["params"],
        "chars_per_second": round(training["tokens"] / training["seconds"]),
        "whole_command_seconds": round(elapsed),
    }


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("text", type=Path)
    options.add_argument("--only", default="", help="architectures, with commas between")
    options.add_argument("--longest", type=float, default=math.inf, help="minutes; goals beyond that are left out")
    asked = options.parse_args(argv)
    wanted = asked.only.split(",") if asked.only else [goal.arch for goal in GOALS]
    goals = [goal for goal in GOALS if goal.arch in wanted and goal.minutes <= asked.longest]
    columns = ["arch", "seconds", "nats_per_char", "goal", "met", "params", "chars_per_second"]
    with tempfile.TemporaryDirectory() as folder:
        show((measure(goal, asked.text, Path(folder)) for goal in goals), columns, asked.json, where=machine())
