"""The exact evaluation: every token of a text scored once, with all the context that the model can use."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from charlm.model import LanguageModel, Network, parameter_count
from charlm.progress import Progress
from charlm.score import Score

ROWS = 64  # at most so many pieces of a text are scored side by side
LOGITS = 1 << 24  # numbers that are held at once
SPAN = 4096  # tokens per piece, so that a text of any size is scored in bounded memory


class Chunk(NamedTuple):
    """Some of a text, to be scored at once."""

    ids: NDArray[Any]  # (N,) to be guessed
    before: NDArray[Any]  # (W,) tokens just before them
    rows: int  # that they are cut into
    length: int  # tokens per row; the last one may be shorter


def token_nats(model: LanguageModel, ids: NDArray[Any], before: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """The cost in nats of each of `ids`, in order, in arrays of up to ROWS x SPAN; `before` is text that stands before.

    A text is cut into rows that are scored side by side. Each row first reads `warm_up` tokens of the text before it,
    unscored, so that no guess is made from less. Only the first `warm_up` guesses are, where `before` is shorter than
    that: each of them is made from all the text that stands before it. `before` holds one token or more.
    """
    for chunk in chunks(model, ids, before):
        yield chunk_nats(model, chunk)


def chunks(model: LanguageModel, ids: NDArray[Any], before: NDArray[Any]) -> Iterator[Chunk]:
    """What `token_nats` scores, one after the other."""
    assert len(before), "something must stand before the first token, if only the start token"
    warm = warm_up(model)

    def cut(ids: NDArray[Any], before: NDArray[Any]) -> Chunk:
        rows = max(1, min(ROWS, len(ids) // (4 * warm)))
        return Chunk(ids, before, rows, math.ceil(len(ids) / rows))

    if len(before) < warm:  # the beginning alone, so that every row of the rest can read enough
        head, ids = ids[:warm], ids[warm:]
        yield cut(head, before)
        before = np.concatenate([before, head])
    for start in range(0, len(ids), ROWS * SPAN):
        just_before = np.concatenate([before[-warm:], ids[max(0, start - warm) : start]])[-warm:]
        yield cut(ids[start : start + ROWS * SPAN], just_before)


def warm_up(model: LanguageModel) -> int:
    return max(model.spec.lengths.training, 256) if model.window is None else model.window


def chunk_nats(model: LanguageModel, chunk: Chunk) -> NDArray[np.float32]:
    """(N,) nats of a chunk's tokens."""
    ids, before, rows, length = chunk
    text = np.concatenate([before, ids]).astype(np.int64)
    warm = len(before)  # row r guesses text[warm + r * length :][:length] and is fed everything from `warm` before it
    fed = np.zeros((rows, warm + length), dtype=np.int64)
    for r in range(rows):
        row = text[r * length : r * length + warm + length]
        fed[r, : len(row)] = row  # the last row may be shorter: what it says about the zeros is cut off below
    nats = next_nats(model, torch.from_numpy(fed).to(next(model.parameters()).device))  # (rows, warm + length - 1)
    return nats[:, warm - 1 :].flatten()[: len(ids)].cpu().numpy()


@torch.inference_mode()
def next_nats(model: LanguageModel, tokens: torch.Tensor) -> torch.Tensor:
    """The cost in nats (B, T - 1) of all `tokens` (B, T) but the first, given those before them."""
    model.eval()
    nats, state = list[torch.Tensor](), model.start(len(tokens))
    at_once = max(1, min(model.spec.lengths.training, LOGITS // (len(tokens) * model.spec.vocab_size)))
    for at in range(0, tokens.size(1) - 1, at_once):
        piece = tokens[:, at : at + at_once + 1]
        out = model(piece[:, :-1], state)
        state = out.state
        nats.append(F.cross_entropy(out.logits.mT.float(), piece[:, 1:], reduction="none"))  # (B, at_once)
    return torch.cat(nats, 1)


def evaluate(
    model: LanguageModel, ids: NDArray[Any], before: NDArray[Any], *, chars: int, bytes: int
) -> Generator[Progress, None, Score]:
    """Score a text of so many characters and UTF-8 bytes, exactly."""
    total, done, longest = 0.0, 0, 0
    for chunk in chunks(model, ids, before):
        nats = chunk_nats(model, chunk)
        total += float(nats.sum(dtype=np.float64))
        done += len(nats)
        longest = max(longest, len(chunk.before) + chunk.length - 1)  # all of a row, up to the window
        yield Progress("scoring", done, len(ids))
    return score_of(total, len(ids), chars, bytes, min(model.window or longest, longest))


def score_of(nats: float, tokens: int, chars: int, bytes: int, context: int) -> Score:
    """What a text of so many tokens, characters and UTF-8 bytes costs that takes `nats` in all."""
    return Score(nats / math.log(2) / bytes, nats / tokens, tokens, chars, bytes, context)


def describe(network: Network, score: Score, arch: str) -> dict[str, Any]:
    """The score as `charlm eval --json` and `metrics.jsonl` give it."""
    said = score.to_json()
    del said["measure"]  # its name is there, with the value
    return {**said, "params": parameter_count(network), "arch": arch}
