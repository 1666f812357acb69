"""The distribution of the next token, before and after each filter that is on."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from charlm.progress import Progress, result
from charlm.sampling.filters import filter_steps
from charlm.sampling.settings import MEMORY, Request
from charlm.states import State
from charlm.writer import Writer


class Stage(NamedTuple):
    name: str  # of the last filter applied, such as "top-k 5"; "model" before any
    probabilities: list[float]  # of the tokens shown
    kept: int  # how many tokens are still possible
    rest: float  # probability of all tokens that are not shown


class Explanation(NamedTuple):
    tokens: list[str]  # those shown: the likeliest before any filter
    stages: list[Stage]

    def to_json(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "stages": [stage._asdict() for stage in self.stages]}


def explain(writer: Writer, request: Request, top: int = 12) -> Explanation:
    """The probabilities of the `top` likeliest tokens after the prompt, before and after each filter.

    Raises as `Writer.pieces` does.
    """
    tokens = writer.prompt_ids(request)  # (1, P)
    return explained(writer, request, tokens, result(reading_logits(writer, tokens)), top)


@torch.inference_mode()
def reading_logits(writer: Writer, tokens: Tensor) -> Generator[Progress, None, Tensor]:
    """(1, V) after a text (1, P)."""
    state: State = None
    for after in writer.model.reading(tokens[:, :-1]):
        state = after
        yield Progress("reading", 0, 1)
    logits: Tensor = writer.model.step(tokens[:, -1], state)[0].float()
    return logits


@torch.inference_mode()
def explained(writer: Writer, request: Request, tokens: Tensor, logits: Tensor, top: int) -> Explanation:
    """`explain`, for a prompt (1, P) of which the logits (1, V) after it are known."""
    likely = logits[0].argsort(descending=True)[:top]
    stages = []
    for name, filtered in filter_steps(request, request.temperatures[0], logits, tokens[:, -MEMORY:]):
        probabilities = filtered[0].softmax(-1)[likely].tolist()
        kept = int((filtered[0] > -torch.inf).sum())
        stages.append(Stage(name, probabilities, kept, max(0.0, 1.0 - sum(probabilities))))
    texts = [writer.tokenizer.tokens[i].decode("utf-8", "backslashreplace") for i in likely.tolist()]
    return Explanation(texts, stages)
