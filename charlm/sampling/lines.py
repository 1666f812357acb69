"""One line for each source: the likeliest token each time (greedy), or one that is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from charlm.model import LanguageModel, State, map_state


class Hypothesis(NamedTuple):
    """What a model may have to say on a source."""

    ids: list[int]  # without the newline at the end
    log_probability: float  # nats under the model itself, of the newline too if there is one
    finished: bool  # with a newline; otherwise it was cut off

    @classmethod
    def of(cls, written: list[int], log_probability: float, newline: int) -> Hypothesis:
        """What was `written` up to the first newline."""
        finished = newline in written
        return cls(written[: written.index(newline)] if finished else written, log_probability, finished)


@torch.inference_mode()
def write_lines(
    model: LanguageModel, source: Tensor, pick: Callable[[Tensor], Tensor], *, newline: int, limit: int
) -> list[Hypothesis]:
    """A hypothesis of at most `limit` tokens, newline included, for each row of `source` (B, S), right-padded with PAD.

    `pick` turns logits (B, V) into ids (B,): the largest for greedy decoding, or a `Picker`. It always sees all rows,
    zeros for those that are done; the model computes only the others.
    """
    model.eval()
    rows, state = len(source), model.read(source)
    written = source.new_full((rows, limit + 1), newline)  # the first is fed, not written
    total = torch.zeros(rows, device=source.device)
    alive = torch.arange(rows, device=source.device)  # (A,)
    for place in range(limit):
        logits, state = model.step(written[alive, place], state)  # (A, V)
        ids = pick(logits.new_zeros(rows, logits.size(1)).index_copy(0, alive, logits))[alive]
        written[alive, place + 1] = ids
        logits = logits.float()
        total[alive] += logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1)
        going = (ids != newline).nonzero()[:, 0]
        if len(going) < len(alive):
            alive, state = select((alive, state), going)
        if not len(alive):
            break
    lines = zip(written[:, 1:].tolist(), total.tolist(), strict=True)
    return [Hypothesis.of(ids, log_probability, newline) for ids, log_probability in lines]


def select(state: State, rows: Tensor) -> State:
    """A state of these `rows` (A,), in any order and any number of times."""
    return map_state(lambda t: t.index_select(0, rows), state)
