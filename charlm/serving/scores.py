"""What a given text costs a model: bits per byte, and of each character or token."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from charlm.errors import SettingsError
from charlm.evaluate import token_nats
from charlm.inside.surprise import surprise
from charlm.model import READ
from charlm.progress import Progress
from charlm.serving.rows import Likelihood
from charlm.text.tokenizers import utf8
from charlm.writer import Writer


def score(writer: Writer, text: str, per: str) -> Generator[Progress, None, dict[str, Any]]:
    """As `charlm score` has it; `per` is `character`, `token` or `text`. Raises as `surprise` does."""
    if not text:
        raise SettingsError("there is no text to score: it is empty", field="text")
    size, result = len(utf8(text)), dict[str, Any]()
    if per == "token":
        nats = yield from token_costs(writer, text)
        bits = nats / math.log(2)
        ids = writer.tokenizer.encode(text).tolist()
        texts = [writer.tokenizer.decode([id]) for id in ids]
        result = {"tokens": [{"text": t, "bits": b} for t, b in zip(texts, bits.tolist(), strict=True)]}
    else:
        found = yield from surprise(writer, text)
        bits = found.bits
        if per == "character":
            pairs = zip(*(list(part) for part in found.characters()), strict=True)
            result = {"characters": [{"text": text, "bits": float(bits)} for text, bits in pairs]}
    total = float(bits.sum())
    return {"bits_per_byte": total / size, "bits": total, "bytes": size, **result}


def token_costs(writer: Writer, text: str) -> Generator[Progress, None, Any]:
    """The nats of each token (tokens,)."""
    ids, done = writer.tokenizer.encode(text), list[Any]()
    for part in token_nats(writer.model, ids, np.array([writer.tokenizer.start])):
        done.append(part)
        yield Progress("scoring", sum(map(len, done)), len(ids))
    return np.concatenate(done).astype(np.float64)


def prompt_likelihoods(writer: Writer, ids: list[int], top: int) -> Generator[Progress, None, list[Likelihood]]:
    """The logprob of each token of a text that begins with these ids, after a newline as all texts are, with so many of
    the likeliest ones."""
    model, decoder = writer.model, writer.tokenizer.decoder()
    fed = torch.tensor([[writer.tokenizer.start, *ids[:-1]]], device=writer.device)
    found, state = list[Likelihood](), model.start(1)
    for piece in torch.split(fed, READ, 1):
        with torch.inference_mode():
            hidden, state, _ = model.features(piece, state)
            logprobs = model.head(hidden)[0].float().log_softmax(-1)  # (T, V)
            values, likeliest = logprobs.topk(min(top, logprobs.size(1)))
            own = ids[len(found) : len(found) + len(logprobs)]
            costs = logprobs.gather(1, torch.tensor(own, device=writer.device)[:, None])[:, 0].tolist()
        for id, logprob, *pairs in zip(own, costs, likeliest.tolist(), values.tolist(), strict=True):
            found.append(Likelihood(id, logprob, decoder.feed(id), list(zip(*pairs, strict=True))))
        yield Progress("scoring", len(found), len(ids))
    return found
