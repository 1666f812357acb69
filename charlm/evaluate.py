"""The exact evaluation: every token of a text scored once, with all the context that the model can use."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from charlm.model import PAD, LanguageModel, Network, parameter_count
from charlm.progress import Progress, result
from charlm.score import Score

ROWS = 64  # at most so many rows of a text are scored side by side
AT_ONCE = 1 << 16  # tokens that a GPU is fed at once: what it takes to launch a step then does not count
LOGITS = 1 << 24  # numbers that are held at once
SPAN = 4096  # tokens per row, so that a text of any size is scored in bounded memory


def rows_at_once(length: int, vocabulary: int) -> int:
    """How many rows of so many guesses, each a number per token of the vocabulary, are computed together."""
    return max(1, min(ROWS, LOGITS // max(1, length * vocabulary)))


Nats = Generator["NDArray[np.float32]", None, "NDArray[np.float32]"]
NOTHING = np.zeros(0, np.float32)


class Layout(NamedTuple):
    """How a text is cut into rows."""

    rows: int  # side by side, at most
    warm_up: int  # tokens before the first guess of a row
    shortest: int  # a row scores so many tokens or more, if there are as many
    longest: int | None = None  # and no more than these

    @property
    def tokens(self) -> int:
        """How many are scored in a chunk, at most."""
        return self.rows * min(SPAN, self.longest or SPAN)

    def cut(self, tokens: int) -> tuple[int, int]:
        """Rows, and the length of each, for so many tokens to be scored."""
        fewest = math.ceil(tokens / self.longest) if self.longest else 1
        rows = max(fewest, min(self.rows, tokens // self.shortest))
        return rows, math.ceil(tokens / rows)


def layout(model: LanguageModel, device: torch.device) -> Layout:
    """The layout that is fastest on a device.

    A CPU's time is what it computes: rows are long, so that little of them is read only to warm up. On a GPU a step
    takes as long for many rows as for few: rows are as many as fit, and short. A model whose window slides then reads
    one window per row, of which it scores what it would read between two slides.
    """
    window, training = model.window, model.spec.lengths.training
    warm_up = window or max(training, 256)
    if device.type != "cuda":
        return Layout(ROWS, warm_up, 4 * warm_up)
    rows = max(1, AT_ONCE // training)
    if window and model.lead_in is not None:
        fresh = window - window // 2
        return Layout(rows, model.lead_in + 1, fresh, fresh)
    return Layout(rows, warm_up, warm_up)


class Chunk(NamedTuple):
    """Some of a text, to be scored at once."""

    ids: NDArray[Any]  # (N,) to be guessed
    before: NDArray[Any]  # (W,) tokens just before them
    rows: int  # that they are cut into
    length: int  # tokens per row; the last one may be shorter


def token_nats(model: LanguageModel, ids: NDArray[Any], before: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """The cost in nats of each of `ids`, in order, in arrays of a chunk each; `before` is text that stands before.
    Between them come empty arrays, while a chunk is read: that takes seconds.

    A text is cut into rows that are scored side by side (`layout`). Each row first reads `warm_up` tokens of the text
    before it, of which the last makes its first guess, so that no guess is made from less. Only the first `warm_up`
    guesses are, where `before` is shorter than that: each of them is made from all the text that stands before it. A
    window that slides holds half of itself or more. `before` holds one token or more.
    """
    for chunk in chunks(model, ids, before):
        nats = yield from chunk_nats(model, chunk)
        yield nats


def chunks(model: LanguageModel, ids: NDArray[Any], before: NDArray[Any]) -> Iterator[Chunk]:
    """What `token_nats` scores, one after the other."""
    assert len(before), "something must stand before the first token, if only the start token"
    fit = layout(model, next(model.parameters()).device)
    warm = fit.warm_up
    if len(before) < warm:  # the beginning alone, so that every row of the rest can read enough
        head, ids = ids[:warm], ids[warm:]
        yield Chunk(head, before, 1, len(head))
        before = np.concatenate([before, head])
    for start in range(0, len(ids), fit.tokens):
        part = ids[start : start + fit.tokens]
        just_before = np.concatenate([before[-warm:], ids[max(0, start - warm) : start]])[-warm:]
        yield Chunk(part, just_before, *fit.cut(len(part)))


def chunk_nats(model: LanguageModel, chunk: Chunk) -> Nats:
    """(N,) nats of a chunk's tokens; an empty array after each piece that is read."""
    ids, before, rows, length = chunk
    text = np.concatenate([before, ids]).astype(np.int64)
    warm = len(before)  # row r guesses text[warm + r * length :][:length] and is fed everything from `warm` before it
    fed = np.zeros((rows, warm + length), dtype=np.int64)
    for r in range(rows):
        row = text[r * length : r * length + warm + length]
        fed[r, : len(row)] = row  # the last row may be shorter: what it says about the zeros is cut off below
    pieces = []
    for piece in next_nats(model, torch.from_numpy(fed).to(next(model.parameters()).device)):
        pieces.append(piece)
        yield NOTHING
    nats = torch.cat(pieces, 1)  # (rows, warm + length - 1)
    return nats[:, warm - 1 :].flatten()[: len(ids)].cpu().numpy()


@torch.inference_mode()
def next_nats(model: LanguageModel, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
    """The cost in nats (B, T - 1) of all `tokens` (B, T) but the first, given those before them, piece by piece."""
    model.eval()
    state, length = model.start(len(tokens)), model.spec.lengths.training
    for fed, following in zip(
        torch.split(tokens[:, :-1], length, 1), torch.split(tokens[:, 1:], length, 1), strict=True
    ):
        hidden, state, _ = model.features(fed, state)
        yield costs(model, hidden, following)


def costs(model: LanguageModel, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What targets (B, T) cost in nats, (B, T), guessed from vectors (B, T, D); PAD costs nothing."""
    at_once = max(1, LOGITS // (len(targets) * model.spec.vocab_size))
    nats = []
    for vectors, wanted in zip(torch.split(hidden, at_once, 1), torch.split(targets, at_once, 1), strict=True):
        logits = model.head(vectors).mT.float()  # (B, V, T)
        nats.append(F.cross_entropy(logits, wanted, reduction="none", ignore_index=PAD))
    return torch.cat(nats, 1)


def evaluate(
    model: LanguageModel, ids: NDArray[Any], before: NDArray[Any], *, chars: int, bytes: int
) -> Generator[Progress, None, Score]:
    """Score a text of so many characters and UTF-8 bytes, exactly."""
    total, done, longest = 0.0, 0, 0
    for chunk in chunks(model, ids, before):
        nats = result(chunk_nats(model, chunk))
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
    said, scored = score.to_json(), score.measure.scored
    del said["measure"]  # its name is there, with the value
    said |= said.pop("figures", {})
    if scored != "token":
        del said["nats_per_char"]
        names = {"nats_per_token": f"nats_per_{scored}", "tokens": f"{scored}s"}
        said = {names.get(name, name): value for name, value in said.items()}
    return {**said, "params": parameter_count(network), "arch": arch}
