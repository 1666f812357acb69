"""The next token's distribution, before and after each filter that is on."""

from __future__ import annotations

from typing import NamedTuple

import torch

from charlm.sampling.filters import stages
from charlm.sampling.settings import MEMORY, Request
from charlm.writer import Writer


class Stage(NamedTuple):
    name: str  # what was done last, such as "top-k 5"
    probabilities: list[float]  # of each of the tokens shown
    kept: int  # tokens that are still possible
    rest: float  # probability of the tokens not shown


class Explanation(NamedTuple):
    tokens: list[str]  # the likeliest before any filter
    stages: list[Stage]


@torch.inference_mode()
def explain(writer: Writer, request: Request, top: int = 12) -> Explanation:
    """What may follow the prompt, and what each filter makes of that, for the `top` tokens that the model likes best.

    Raises as `Writer.pieces` does.
    """
    tokens = writer.encoded(request)  # (1, P)
    logits = writer.model.step(tokens[:, -1], writer.model.read(tokens[:, :-1]))[0].float()  # (1, V)
    likely = logits[0].argsort(descending=True)[:top]
    shown = []
    for name, left in stages(request, request.temperatures[0], logits, tokens[:, -MEMORY:]):
        share = left[0].softmax(-1)
        kept = int((left[0] > -torch.inf).sum())
        some = share[likely].tolist()
        shown.append(Stage(name, some, kept, max(0.0, 1.0 - sum(some))))
    texts = [writer.tokenizer.tokens[i].decode("utf-8", "backslashreplace") for i in likely.tolist()]
    return Explanation(texts, shown)
