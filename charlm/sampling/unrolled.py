"""Many tokens at once on a GPU: steps, and the choice of a token after each, recorded as one CUDA graph.

Launched one by one a step's kernels, and even a recorded step and then the choice, leave the GPU waiting for the host.
All that a choice depends on is on the device: the number of tokens written, from which the noise follows
(`noise.py`), the temperatures, and the last tokens. So the host launches one graph for many tokens, and the text is
the one that a `Picker` picks token by token.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from charlm.archs._graph import FixedStepper
from charlm.recording import Recorded
from charlm.sampling.filters import NOISE_SIZE, Picker, cooled, narrowing, penalise
from charlm.sampling.noise import INCREMENT, branch, gumbel
from charlm.sampling.settings import MEMORY, SampleSettings

AHEAD = {"cuda": 16}  # tokens that are written before they are copied to the host: every copy waits for the device
ALONE = 64  # tokens that are written one by one before many are recorded, which takes as long as they do
COLDEST = 1e-30  # in the place of temperature 0: what is not the largest falls out of sight


class Unrolled:
    """Steps and choices on tensors that keep their place, for all texts that are picked in one `manner`."""

    def __init__(self, pick: Picker, token: Tensor, *, logits: bool) -> None:
        """`token` (B,) is like all that will be; with `logits` those of every step are kept."""
        self.manner = manner(pick.settings, logits=logits)
        self.settings, self.with_logits = pick.settings, logits
        self.drawn, self.filters = any(pick.temperatures), narrowing(pick.settings)
        self.token, self.streams = token.clone(), torch.empty_like(pick.streams)
        self.count = token.new_zeros(1)  # of the tokens written
        self.temperatures = torch.empty(len(pick.temperatures), device=token.device)
        self.recent = token.new_empty(len(token), MEMORY if pick.settings.repetition_penalty != 1 else 0)
        self.written = 0  # tokens of all texts
        self.graphs: dict[int, Recorded] = {}  # by their number of steps
        self.logits: dict[int, list[Tensor]] = {}  # (B, V) of each step of a graph

    def begin(self, pick: Picker, token: Tensor) -> None:
        """A new text, whose last token (B,) was not fed yet."""
        self.token.copy_(token)
        self.streams.copy_(pick.streams)
        self.count.zero_()
        self.temperatures.copy_(torch.tensor(pick.temperatures))
        if self.recent.size(1):
            known = token[:, None] if pick.recent is None else pick.recent  # (B, R)
            self.recent[:] = known[:, :1]  # what stands there twice is not penalised twice
            self.recent[:, MEMORY - known.size(1) :] = known

    def tokens(self, step: FixedStepper) -> tuple[Tensor, Tensor | None]:
        """The next ids (K, B), and with logits these (K, B, V)."""
        step.make_room()
        many = AHEAD[step.device.type]
        steps = many if self.written >= ALONE and step.room >= many else 1
        if steps not in self.graphs:  # kernels that were chosen for one step serve many
            self.graphs[steps] = step.recorded(partial(self.work, steps=steps), warm_up=int(steps == 1))
        ids = self.graphs[steps]().clone()
        step.room -= steps
        self.written += steps
        return ids, torch.stack(self.logits[steps]) if self.with_logits else None

    def work(self, step: FixedStepper, *, steps: int) -> Tensor:
        """What is recorded, -> ids (K, B)."""
        token, recent, ids = self.token, self.recent, list[Tensor]()
        numbers = self.count + torch.arange(steps, device=token.device)  # (K,)
        temperatures = self.temperatures[numbers % len(self.temperatures)]
        self.logits[steps] = []
        noise: list[Tensor] = []
        for number in range(steps):
            logits = step.compute(token)
            if self.drawn and not noise:
                size = max(1, NOISE_SIZE.get(token.device.type, 1 << 16) // logits.numel())
                some = slice(number, number + size)
                noise = self.noise(numbers[some], temperatures[some], logits.size(1))
            token = self.best(logits.float(), temperatures[number], noise.pop(0) if noise else None, recent)
            if recent.size(1):
                recent = torch.cat([recent[:, 1:], token[:, None]], 1)
            ids.append(token)
            self.logits[steps] += [logits] if self.with_logits else []
        self.token.copy_(token)
        self.recent.copy_(recent)
        self.count += steps
        return torch.stack(ids)

    def noise(self, numbers: Tensor, temperatures: Tensor, vocabulary: int) -> list[Tensor]:
        """(B, V) for each token with these numbers (N,), times what is to be added to its logits or, filtered ones
        being divided by the temperature, to these."""
        keys = torch.arange(vocabulary, device=numbers.device) * INCREMENT
        noise = gumbel(branch(self.streams, numbers[:, None] + 1), keys)  # (N, B, V)
        weights = temperatures.sign() if self.filters else temperatures
        return list(noise.mul_(weights[:, None, None]))

    def best(self, logits: Tensor, temperature: Tensor, noise: Tensor | None, recent: Tensor) -> Tensor:
        """The ids (B,) of the largest logits (B, V) after filters and noise."""
        if recent.size(1):
            logits = penalise(logits, recent, self.settings.repetition_penalty)
        if noise is None:
            return logits.argmax(-1)
        if self.filters:
            logits = cooled(logits, temperature.clamp(min=COLDEST))
            for _, keep in self.filters:
                logits = keep(logits)
        return (logits + noise).argmax(-1)


def manner(s: SampleSettings, *, logits: bool) -> tuple[Any, ...]:
    """What is recorded of the settings; the temperatures themselves are read from the device."""
    temperatures = len(s.temperatures), any(s.temperatures)
    return *temperatures, s.top_k, s.top_p, s.min_p, s.repetition_penalty, logits


def unrolled(
    step: FixedStepper, pick: Picker, token: Tensor, *, logits: bool
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """As `generate`, which knows when this can be: (ids (B,), with `logits` these (B, V)) for each token after `token`.

    What was recorded is kept with the stepper, for the next text that is picked in the same manner.
    """
    if step.unrolled is None or step.unrolled.manner != manner(pick.settings, logits=logits):
        step.unrolled = Unrolled(pick, token, logits=logits)
    loop: Unrolled = step.unrolled
    loop.begin(pick, token)
    while True:
        ids, guesses = loop.tokens(step)
        yield from zip(ids.unbind(), [None] * len(ids) if guesses is None else guesses.unbind(), strict=True)
