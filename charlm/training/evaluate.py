"""The exact evaluation: every token of a text scored once, with all the context that the model can use.

Of pairs the targets are scored, each token given its source and the target so far.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from charlm.model import PAD, LanguageModel, parameter_count
from charlm.objectives import OBJECTIVES
from charlm.progress import Progress
from charlm.text.buckets import Buckets, Rows, rows
from charlm.text.pair_store import PairSplit

ROWS = 64  # at most so many pieces of a text are scored side by side
LOGITS = 1 << 24  # numbers that are held at once
PAIR_TOKENS = 4096  # of the longer side of pairs that are scored together
SPAN = 4096  # tokens per piece, so that a text of any size is scored in bounded memory


class Score(NamedTuple):
    """What a text costs a model. Only bits per byte compare across tokenizers."""

    bits_per_byte: float
    nats_per_token: float
    nats_per_char: float
    tokens: int
    chars: int
    bytes: int
    context: int  # the most tokens that any guess could look back on


class Block(NamedTuple):
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
    assert len(before), "something must stand before the first token, if only the start token"
    for block in blocks(model, ids, before):
        yield block_nats(model, block)


def blocks(model: LanguageModel, ids: NDArray[Any], before: NDArray[Any]) -> Iterator[Block]:
    """What `token_nats` scores, one after the other."""
    warm = warm_up(model)

    def block(ids: NDArray[Any], before: NDArray[Any]) -> Block:
        rows = max(1, min(ROWS, len(ids) // (4 * warm)))
        return Block(ids, before, rows, math.ceil(len(ids) / rows))

    if len(before) < warm:  # the beginning alone, so that every row of the rest can read enough
        head, ids = ids[:warm], ids[warm:]
        yield block(head, before)
        before = np.concatenate([before, head])
    for start in range(0, len(ids), ROWS * SPAN):
        just_before = np.concatenate([before[-warm:], ids[max(0, start - warm) : start]])[-warm:]
        yield block(ids[start : start + ROWS * SPAN], just_before)


def warm_up(model: LanguageModel) -> int:
    return max(model.spec.seq_len, 256) if model.window is None else model.window


@torch.inference_mode()
def block_nats(model: LanguageModel, block: Block) -> NDArray[np.float32]:
    """(N,) nats of a block's tokens."""
    device = next(model.parameters()).device
    ids, before, rows, length = block
    text = np.concatenate([before, ids]).astype(np.int64)
    warm = len(before)  # row r guesses text[warm + r * length :][:length] and is fed everything from `warm` before it
    fed = np.zeros((rows, warm + length), dtype=np.int64)
    for r in range(rows):
        row = text[r * length : r * length + warm + length]
        fed[r, : len(row)] = row  # the last row may be shorter: what it says about the zeros is cut off below
    tokens = torch.from_numpy(fed).to(device)
    nats: list[torch.Tensor] = []
    state = None
    chunk = max(1, min(model.spec.seq_len, LOGITS // (rows * model.spec.vocab_size)))
    model.eval()
    for at in range(0, tokens.size(1) - 1, chunk):
        piece = tokens[:, at : at + chunk + 1]
        out = model(piece[:, :-1], state)
        state = out.state
        nats.append(F.cross_entropy(out.logits.mT.float(), piece[:, 1:], reduction="none"))  # (rows, chunk)
    scored = torch.cat(nats, 1)[:, warm - 1 :]  # (rows, length)
    return scored.flatten()[: len(ids)].cpu().numpy()


def evaluate(
    model: LanguageModel, ids: NDArray[Any], before: NDArray[Any], *, chars: int, bytes: int
) -> Generator[Progress, None, Score]:
    """Score a text of so many characters and UTF-8 bytes, exactly."""
    total, done = 0.0, 0
    for nats in token_nats(model, ids, before):
        total += float(nats.sum(dtype=np.float64))
        done += len(nats)
        yield Progress("scoring", done, len(ids))
    return score_of(total, len(ids), chars, bytes, longest_look(model, ids, before))


def pair_nats(model: LanguageModel, pairs: PairSplit) -> Generator[Progress, None, NDArray[np.float64]]:
    """What each target costs in nats, its newline included, (pairs,)."""
    source, target = pairs.source, pairs.target
    tokens = max(1, min(PAIR_TOKENS, LOGITS // model.spec.vocab_size))
    buckets = Buckets(source, target, batch_tokens=tokens, seed=0)
    order, _ = buckets.epoch(0)
    found = np.zeros(len(target))
    model.eval()
    for first, end in pairwise(buckets.cuts):
        found[order[first:end]] = batch_nats(model, rows(source, target, order[first:end]))
        yield Progress("scoring", end, len(target))
    return found


@torch.inference_mode()
def batch_nats(model: LanguageModel, shown: Rows) -> NDArray[np.float32]:
    """The same of one batch, (B,)."""
    device = next(model.parameters()).device
    batch = OBJECTIVES["pairs"](*(torch.from_numpy(side).to(device) for side in shown))
    logits = model(batch.tokens, source=batch.source).logits
    nats = F.cross_entropy(logits.mT.float(), batch.targets, reduction="none", ignore_index=PAD)  # (B, T)
    return nats.sum(1).cpu().numpy()


def evaluate_pairs(model: LanguageModel, pairs: PairSplit) -> Generator[Progress, None, Score]:
    """Score targets, given their sources."""
    return pair_score(pairs, (yield from pair_nats(model, pairs)))


def pair_score(pairs: PairSplit, nats: NDArray[np.float64]) -> Score:
    """What `pair_nats` (pairs,) come to."""
    context = int((pairs.source.sizes + pairs.target.sizes).max())  # a target's newline also stands before it
    return score_of(float(nats.sum()), len(pairs), pairs.chars, pairs.bytes, context)


def score_of(nats: float, tokens: int, chars: int, bytes: int, context: int) -> Score:
    """What a text of so many tokens, characters and UTF-8 bytes costs that takes `nats` in all."""
    return Score(nats / math.log(2) / bytes, nats / tokens, nats / chars, tokens, chars, bytes, context)


def longest_look(model: LanguageModel, ids: NDArray[Any], before: NDArray[Any]) -> int:
    """The most tokens that any of `token_nats`'s guesses can look back on: all of its row, up to the window."""
    fed = max((len(block.before) + block.length - 1 for block in blocks(model, ids, before)), default=0)
    return min(model.window or fed, fed)


def describe(model: LanguageModel, score: Score, arch: str) -> dict[str, Any]:
    """The score as `charlm eval --json` and `metrics.jsonl` give it."""
    return {**score._asdict(), "params": parameter_count(model), "arch": arch}
