"""What a model would guess after each of its layers, were that the last one: its vectors go straight to the head.

The logit lens of nostalgebraist 2020 ("interpreting GPT: the logit lens", LessWrong), as Belrose et al. 2023,
arXiv:2303.08112, section 2, have it: through the model's final norm, too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charlm import kinds
from charlm.config import PAD
from charlm.errors import SettingsError
from charlm.evaluate import LOGITS
from charlm.inside import refuse_empty
from charlm.inside.attend import source_ids, token_texts
from charlm.inside.neurons import LONGEST
from charlm.text.units import Ids
from charlm.writer import Writer


class Layer(NamedTuple):
    """What the head makes of one layer's vectors."""

    name: str  # "embedding", "layer 2"
    guesses: list[str]  # (T,) the likeliest next token after each
    right: list[bool]  # (T,) whether it is what came
    probabilities: list[float]  # (T,) of these
    bits_per_byte: float  # of the tokens that came
    divergence: float  # from the last layer's guesses, Kullback-Leibler, mean bits per token


class Lens(NamedTuple):
    tokens: list[str]  # (T,) that were read, first of all the newline that stands before a text
    following: list[str]  # what came after each; of a running text nothing does after the last
    layers: list[Layer]

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "layers": [layer._asdict() for layer in self.layers]}


@torch.inference_mode()
def lens(writer: Writer, text: str, *, source: str | None = None) -> Lens:
    """The guesses after each layer while `text` is read, or written for `source`.

    Raises `SettingsError` for a model that does not show its layers or has just one, and for a text that is empty or
    does not fit into the window; `VocabularyError` for characters that the vocabulary lacks.
    """
    refuse_empty(text, source)
    if not kinds.load(writer.kind).has_source:
        writer.check_can_continue()
    read, (fed, following) = source_ids(writer, source), fed_and_following(writer, text)
    if len(fed) > LONGEST:
        raise SettingsError(f"the text must have fewer than {LONGEST:,} tokens, got {len(fed) - 1:,}", field="text")
    given = (None if ids is None else torch.from_numpy(ids)[None].to(writer.device) for ids in (fed, read))
    states = writer.model.hidden_states(*given)
    if len(states) < 2:
        raise SettingsError("this run has one layer, whose guesses are the model's own; a lens needs two or more")
    vectors = torch.cat(list(states.values()))  # (L, T, D)
    probabilities, ids, nats, divergence = read_out(writer.model, vectors, torch.from_numpy(following))
    came = F.pad(torch.from_numpy(following), (0, len(fed) - len(following)), value=PAD)  # (T,)
    bytes = sum(len(writer.tokenizer.tokens[id]) for id in following.tolist())
    layers = [
        Layer(
            name,
            token_texts(writer.tokenizer, ids[n].numpy()),
            (ids[n] == came).tolist(),
            probabilities[n].tolist(),
            float(nats[n].sum()) / math.log(2) / bytes,
            float(divergence[n].mean()) / math.log(2),
        )
        for n, name in enumerate(states)
    ]
    return Lens(token_texts(writer.tokenizer, fed), token_texts(writer.tokenizer, following), layers)


def fed_and_following(writer: Writer, text: str) -> tuple[Ids, Ids]:
    """What the model is fed to read or write a text, from the newline before it, and what follows these tokens.

    After a running text anything may follow; a target ends with a newline.
    """
    tokenizer = writer.tokenizer
    written = tokenizer.encode(text)
    if kinds.load(writer.kind).has_source:
        return np.insert(written, 0, tokenizer.newline), np.append(written, tokenizer.newline)
    return np.insert(written, 0, tokenizer.start), written


def read_out(model: Any, vectors: Tensor, following: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the head makes of vectors (L, T, D): the highest probabilities (L, T) and their ids, the nats (L, N) of the
    N tokens `following` the first, and the divergence (L, T) in nats from the guesses of the last layer."""
    pieces = []
    at_once = max(1, LOGITS // (len(vectors) * model.spec.vocab_size))
    for start in range(0, vectors.size(1), at_once):
        logprobs = model.head(vectors[:, start : start + at_once]).float().log_softmax(-1)  # (L, t, V)
        best, last = logprobs.max(-1), logprobs[-1]
        truth = following[start : start + at_once].to(vectors.device).expand(len(vectors), -1)  # (L, n)
        nats = -logprobs[:, : truth.size(1)].gather(2, truth[..., None]).squeeze(2)
        divergence = (last.exp() * (last - logprobs)).sum(-1)
        pieces.append((best.values.exp(), best.indices, nats, divergence))
    probabilities, ids, nats, divergence = (torch.cat(parts, 1).cpu() for parts in zip(*pieces, strict=True))
    return probabilities, ids, nats, divergence
