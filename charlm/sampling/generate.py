"""Autoregressive generation, the same for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from charlm.archs._graph import FixedStepper
from charlm.model import LanguageModel, Stepper, repeated
from charlm.sampling.filters import Picker
from charlm.sampling.unrolled import AHEAD, unrolled

Token = tuple[Tensor, Tensor | None]  # ids (B,), logits (B, V)
Fetched = tuple[list[int], Tensor, Tensor | None]


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    pick: Callable[[Tensor], Tensor],
    *,
    samples: int = 1,
    step: Stepper | None = None,
    logits: bool = True,
) -> Iterator[Token]:
    """Continue `prompt` (1, P), P >= 1, in `samples` rows without end: yields (ids (B,), logits (B, V)) per token.

    `pick` turns logits (B, V) into ids (B,). `step` is a stepper of the model for `samples` rows that nothing else uses
    meanwhile; by default a new one. The prompt is read once, whatever the number of rows. Without `logits` they may be
    None: a GPU then need not keep them.
    """
    model.eval()
    token, step = prompt[:, -1].expand(samples), step or model.stepper(samples)
    step.begin(repeated(model.read(prompt[:, :-1]), samples))
    if token.device.type in AHEAD and isinstance(step, FixedStepper) and isinstance(pick, Picker) and not pick.on_host:
        yield from unrolled(step, pick, token, logits=logits)
    while True:
        guess = step(token)
        token = pick(guess)
        yield token, guess


def fetched(steps: Iterator[Token]) -> Iterator[Fetched]:
    """What `generate` yields, with the ids on the host. A GPU writes on while the tokens before are read."""
    waiting: Callable[[], Iterator[Fetched]] | None = None
    for first in steps:
        many = AHEAD.get(first[0].device.type, 1)
        if many == 1:
            yield first[0].tolist(), *first
            continue
        sent = on_the_way([first, *islice(steps, many - 1)])
        if waiting:
            yield from waiting()
        waiting = sent
    if waiting:
        yield from waiting()


def on_the_way(tokens: Sequence[Token]) -> Callable[[], Iterator[Fetched]]:
    """Starts to copy ids to the host; what is returned waits for them."""
    ids = torch.stack([ids for ids, _ in tokens])
    numbers = ids.to("cpu", non_blocking=True)
    done = torch.cuda.current_stream(ids.device).record_event() if ids.is_cuda else None

    def arrived() -> Iterator[Fetched]:
        if done:
            done.synchronize()
        for row, token in zip(numbers.tolist(), tokens, strict=True):
            yield row, *token

    return arrived
