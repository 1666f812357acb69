"""Growth: what a token costs after 1,000 and after 100,000 written ones. Flat, or something is kept or read again.

python -m bench growth [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from bench._table import Row, machine, parser, show
from bench.write import build
from charlm.sampling.filters import Picker
from charlm.sampling.generate import generate
from charlm.sampling.noise import streams
from charlm.sampling.settings import SampleSettings

MODELS = [{"arch": "lstm", "hidden_size": 256}, {"arch": "gru", "hidden_size": 256}, {"arch": "transformer"}]
AT, SPAN = (1_000, 10_000, 100_000), 1000


def resident() -> float:
    """Megabytes that this process holds now; nothing where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096 / 1e6
    except OSError:
        return float("nan")


def rows() -> Iterator[Row]:
    for settings in MODELS:
        model, row = build(**settings), {"what": settings["arch"]}
        pick = Picker(SampleSettings("0.8"), streams(0, [0]))
        written, done = generate(model, torch.zeros(1, 1, dtype=torch.long), pick), 0
        for at in AT:
            for _ in islice(written, at - done - SPAN):
                pass
            began = time.perf_counter()
            for _ in islice(written, SPAN):
                pass
            row[f"us/token at {at:,}"] = (time.perf_counter() - began) / SPAN * 1e6
            row[f"MB at {at:,}"] = resident()
            done = at
        yield row


def main(argv: Sequence[str]) -> None:
    asked = parser(__doc__).parse_args(argv)
    columns = ["what", *(f"us/token at {at:,}" for at in AT), *(f"MB at {at:,}" for at in AT)]
    show(rows(), columns, asked.json, where=machine())
