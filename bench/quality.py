"""Quality per minute on Tiny Shakespeare: train with the defaults by the command line, then score exactly.

    python -m bench quality tinyshakespeare.txt [--only lstm,transformer] [--json quality.json]

The split is nanoGPT's: the last 10 % are the validation text. Runs follow each other, so that none shares the cores.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench._table import Row, machine, parser, show


class Goal(NamedTuple):
    arch: str
    minutes: float
    nats: float  # per character, at most


PLAIN = "nanogpt-char-cpu"  # a preset: a plain GPT, in nanoGPT's sizes for a CPU
BELOW = 0.45  # nats per character by which an LSTM with as many minutes must be better, on any processor
GOALS = [  # those of the LSTM are for a processor with AVX-512
    Goal(PLAIN, 1.5, math.inf),
    Goal("lstm", 1.5, 1.52),
    Goal("lstm", 100 / 60, 1.45),
    Goal("lstm", 5, 1.40),
    Goal("transformer", 100 / 60, 1.65),
    Goal("transformer", 5, 1.55),
    Goal("lstm", 20 / 60, 1.90),
    Goal("transformer", 40 / 60, 1.90),
    Goal("transformer", 1.5, 1.75),
    Goal("seq2seq", 3.0, 1.90),
    Goal("lstmcell", 3.0, 1.65),
    Goal("lstm", 30, 1.37),
    Goal("transformer", 30, 1.48),
]


def charlm(*words: str, timeout: float | None = None) -> str:
    """The output of a command, which may take so many seconds."""
    command = [sys.executable, "-m", "charlm", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout).stdout


def measure(goal: Goal, text: Path, folder: Path, device: str = "auto", timeout: float | None = None) -> Row:
    """Train with the defaults for a goal's minutes, and score the whole validation text.

    Each of the two commands may take `timeout` seconds.
    """
    run = folder / f"{goal.arch}-{goal.minutes:.2f}"
    began = time.monotonic()
    model = ["--preset" if goal.arch == PLAIN else "--arch", goal.arch]
    budget = ["--minutes", f"{goal.minutes:.4f}", "--val-frac", "0.1", "--test-frac", "0"]
    place = ["--device", device]
    charlm("train", str(text), *model, *budget, *place, "--out", str(run), "--quiet", timeout=timeout)
    elapsed = time.monotonic() - began
    score = json.loads(charlm("eval", str(run), "--json", *place, timeout=timeout))
    training = json.loads((run / "training.json").read_text())
    return {
        "arch": goal.arch,
        "seconds": round(60 * goal.minutes),
        "goal": goal.nats if goal.nats < math.inf else "",
        "nats_per_char": f"{score['nats_per_char']:.4f}",
        "met": ("yes" if score["nats_per_char"] <= goal.nats else "no") if goal.nats < math.inf else "",
        "params": score["params"],
        "chars_per_second": round(training["tokens"] / training["seconds"]),
        "whole_command_seconds": round(elapsed),
    }


def rows(goals: Sequence[Goal], text: Path) -> Iterator[Row]:
    """A row for each goal; an LSTM that was trained as long as the plain GPT is compared with it."""
    plain: Row = {}
    with tempfile.TemporaryDirectory() as folder:
        for goal in goals:
            row = measure(goal, text, Path(folder))
            if goal.arch == PLAIN:
                plain = row
            elif plain and (goal.arch, row["seconds"]) == ("lstm", plain["seconds"]):
                lead = float(plain["nats_per_char"]) - float(row["nats_per_char"])
                row["below_plain_gpt"] = f"{lead:.3f} (goal: {BELOW})"
            yield row


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("text", type=Path)
    options.add_argument("--only", default="", help="architectures, with commas between")
    options.add_argument("--longest", type=float, default=math.inf, help="minutes; goals beyond that are left out")
    args = options.parse_args(argv)
    wanted = args.only.split(",") if args.only else [goal.arch for goal in GOALS]
    goals = [goal for goal in GOALS if goal.arch in wanted and goal.minutes <= args.longest]
    columns = ["arch", "seconds", "nats_per_char", "goal", "met", "below_plain_gpt", "params", "chars_per_second"]
    show(rows(goals, args.text), columns, args.json, title=machine())
