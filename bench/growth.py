"""Growth: time and memory per token after 1,000 to 100,000 written tokens. They must not grow with the text.

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
POSITIONS, SPAN = (1_000, 10_000, 100_000), 1000  # after so many tokens, over the last so many of them


def resident() -> float:
    """Megabytes of memory of this process; nan if the system does not tell."""
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
        for position in POSITIONS:
            for _ in islice(written, position - done - SPAN):
                pass
            began = time.perf_counter()
            for _ in islice(written, SPAN):
                pass
            row[f"us/token at {position:,}"] = (time.perf_counter() - began) / SPAN * 1e6
            row[f"MB at {position:,}"] = resident()
            done = position
        yield row


def main(argv: Sequence[str]) -> None:
    args = parser(__doc__).parse_args(argv)
    figures = [f"{figure} at {position:,}" for figure in ("us/token", "MB") for position in POSITIONS]
    show(rows(), ["what", *figures], args.json, title=machine())
