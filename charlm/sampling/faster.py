"""Which processor writes one text of a model faster: a small LSTM is faster on a CPU, a transformer on a GPU.

No rule knows the machine, so it is measured: some tokens of both, by the very steps that the text is written with.
"""

from __future__ import annotations

import time
from itertools import islice

import torch

from charlm.archs._graph import FixedStepper
from charlm.model import LanguageModel, Stepper
from charlm.sampling.filters import Picker
from charlm.sampling.generate import fetched, generate
from charlm.sampling.noise import streams
from charlm.sampling.settings import SampleSettings
from charlm.sampling.unrolled import AHEAD, ALONE

LARGE = 20_000_000  # weights: to read so many for every token takes a CPU longer than any GPU's step


def seconds_per_token(model: LanguageModel, step: Stepper, settings: SampleSettings) -> float:
    """Of one text on the model's device, measured in about a tenth of a second; what was recorded is kept by `step`."""
    device = next(model.parameters()).device
    ahead = AHEAD.get(device.type, 1)
    before = 2 * ahead + (ALONE if ahead > 1 and isinstance(step, FixedStepper) else 0)  # until all is recorded
    start = torch.zeros(1, 1, dtype=torch.long, device=device)
    pick = Picker(settings, streams(0, [0], device), start)
    tokens = fetched(generate(model, start, pick, step=step, logits=False))
    for _ in islice(tokens, before):
        pass
    began, timed = time.perf_counter(), max(16, 2 * ahead)
    for _ in islice(tokens, timed):
        pass
    return (time.perf_counter() - began) / timed
