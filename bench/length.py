"""Length: tokens per second and peak memory of training, and tokens per second of writing, against the window's length.

    python -m bench length [--longest N] [--only NAME …] [--device cpu|cuda] [--json FILE]

Every measurement runs in a process of its own, so its peak memory is its own (on a CPU with PyTorch in it). A model
with a window is trained on a row that fills it and writes at the end of a full one; others read the same lengths. The
last row of a model has a fitted exponent: a step's seconds grow as the length to that power.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from bench._table import Row, machine, parser, show
from charlm import archs
from charlm.archs._patterns import NAMES
from charlm.config import DataSpec
from charlm.device import peak_memory
from charlm.plan import Plan
from charlm.text.windows import Windows
from charlm.training.loop import Trainer

SIZES: dict[str, Any] = {"layers": 2, "hidden_size": 128}
PATTERNS = {name: {"arch": "transformer", "pattern": name} for name in NAMES}
OTHERS = {name: {"arch": name} for name in ("lstm", "transformer-xl", "reformer")}  # left out where it does not exist
MODELS: dict[str, dict[str, Any]] = PATTERNS | {
    name: settings for name, settings in OTHERS.items() if settings["arch"] in archs.names()
}
VOCABULARY = 65
SHORTEST, LONGEST = 1024, {"cpu": 16_384, "cuda": 65_536}
SECONDS = {"training": 1.5, "writing": 0.5}  # per measurement, at least one step


def training(settings: dict[str, Any], length: int, device: str) -> Row:
    """Tokens per second and megabytes of steps of one row."""
    plan = Plan.of({"steps": 10**9, "warmup": 0.0, "device": device, "precision": "fp32", "compile": "off", **settings})
    ids = np.random.default_rng(0).integers(VOCABULARY, size=4 * length, dtype=np.uint8)
    windows = Windows(ids, batch_size=1, seq_len=length, order="stream", seed=0)
    steps = iter(Trainer.from_plan(plan, windows, DataSpec(VOCABULARY, plan.lengths)))
    seconds = best_time(lambda: float(next(steps).nats), SECONDS["training"])
    return {"trained/s": length / seconds, "MB": (peak_memory(torch.device(device)) or math.nan) / 1e6}


@torch.inference_mode()
def writing(settings: dict[str, Any], length: int, device: str) -> Row:
    """Tokens per second after so many that the window is nearly full."""
    plan = Plan.of(settings)
    model: Any = plan.build(DataSpec(VOCABULARY, plan.lengths)).eval().to(device)
    count = 64
    text = torch.randint(VOCABULARY, (1, length), generator=torch.Generator().manual_seed(0)).to(device)
    state, step = model.read(text[:, : length - count]), model.stepper(1)

    def write() -> None:
        for token in text[0, length - count :].split(1):
            step(token).argmax(-1).item()

    spent = []
    began = time.perf_counter()
    while len(spent) < 2 or time.perf_counter() - began < SECONDS["writing"]:
        step.begin(state)
        now = time.perf_counter()
        write()
        spent.append(time.perf_counter() - now)
    return {"written/s": count / min(spent)}


def best_time(work: Any, budget: float) -> float:
    """Seconds of a call, the shortest of those that fit into the budget; the first one warms up if it is quick."""
    spent = list[float]()
    while not spent or sum(spent) + min(spent) < budget:
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent)


def alone(name: str, length: int, device: str) -> Row:
    """Both measurements, in a process each."""
    row: Row = {"what": name, "length": length}
    for what in ("training", "writing"):
        command = [sys.executable, "-m", "bench", "length", "--one", what, name, str(length), "--device", device]
        done = subprocess.run(command, capture_output=True, text=True)
        row |= json.loads(done.stdout) if not done.returncode else {"failed": last_line(done)}
    return row


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a process that failed said in the end; one that was killed says nothing."""
    return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:60]


def exponent(measured: Sequence[Row]) -> float:
    """Of the length, in the seconds of a training step: the slope between logarithms, by least squares."""
    if len(measured) < 2:
        return math.nan
    lengths = np.array([row["length"] for row in measured])
    seconds = lengths / np.array([row["trained/s"] for row in measured])
    return float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0])


def rows(names: Sequence[str], longest: int, device: str) -> Iterator[Row]:
    """Of each model its lengths, doubled from row to row, and what they say together."""
    for name in names:
        done, length = list[Row](), SHORTEST
        while length <= longest:
            done.append(alone(name, length, device))
            yield done[-1]
            length *= 2
        power = exponent([row for row in done if "trained/s" in row])
        yield {"what": f"{name}, exponent of the length", "trained/s": power}


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options.add_argument("--longest", type=int, help="the last length [default: 16384, on a GPU 65536]")
    options.add_argument("--only", nargs="+", choices=MODELS, help="only these")
    options.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = options.parse_args(argv)
    if args.one:
        what, name, length = args.one
        settings = SIZES | MODELS[name] | {"seq_len": int(length)}
        measure = training if what == "training" else writing
        print(json.dumps(measure(settings, int(length), args.device)))
        return
    columns = ["what", "length", "trained/s", "MB", "written/s", "failed"]
    table = rows(args.only or list(MODELS), args.longest or LONGEST[args.device], args.device)
    show(table, columns, args.json, title=machine(args.device))
