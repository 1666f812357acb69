"""One line for each source: every token is the likeliest one (greedy), or is sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from charlm.model import LanguageModel, State, map_state


class Hypothesis(NamedTuple):
    """A line that a model may write for a source."""

    ids: list[int]  # without the newline at the end
    log_probability: float  # nats under the model itself, of the newline too if there is one
    finished: bool  # ended with a newline; otherwise it was cut off

    @classmethod
    def of(cls, written: list[int], log_probability: float, newline: int) -> Hypothesis:
        """The ids that were `written`, up to the first newline."""
        finished = newline in written
        return cls(written[: written.index(newline)] if finished else written, log_probability, finished)


@torch.inference_mode()
def write_lines(
    model: LanguageModel, source: Tensor, pick: Callable[[Tensor], Tensor], *, newline: int, limit: int
) -> list[Hypothesis]:
    """A hypothesis of at most `limit` tokens, newline included, for each row of `source` (B, S), right-padded with PAD.

    `pick` turns logits (B, V) into ids (B,): their argmax for greedy decoding, or a `Picker`. It always gets all rows,
    with zeros for rows that have ended, which the model does not compute.
    """
    model.eval()
    rows, state = len(source), model.read(source)
    written = source.new_full((rows, limit + 1), newline)  # (B, limit + 1) the first is fed, and not written
    total = torch.zeros(rows, device=source.device)
    active = torch.arange(rows, device=source.device)  # (A,) the rows that have not ended
    for position in range(limit):
        logits, state = model.step(written[active, position], state)  # (A, V)
        ids = pick(logits.new_zeros(rows, logits.size(1)).index_copy(0, active, logits))[active]
        written[active, position + 1] = ids
        logits = logits.float()
        total[active] += logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1)
        remaining = (ids != newline).nonzero()[:, 0]
        if len(remaining) < len(active):
            active, state = select_rows((active, state), remaining)
        if not len(active):
            break
    lines = zip(written[:, 1:].tolist(), total.tolist(), strict=True)
    return [Hypothesis.of(ids, log_probability, newline) for ids, log_probability in lines]


def select_rows(state: State, rows: Tensor) -> State:
    """The state of these `rows` (A,), in any order and with repetitions."""
    return map_state(lambda t: t.index_select(0, rows), state)
