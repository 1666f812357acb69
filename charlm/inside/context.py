"""How much context a model makes use of: its score when it sees only the last few tokens.

The effective context size of Khandelwal, He, Qi & Jurafsky 2018, arXiv:1805.04623, section 4: more than it gains
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from charlm.errors import CorpusError
from charlm.model import LanguageModel
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.scoring import run_text
from charlm.text.corpus import Corpus
from charlm.writer import Writer

LONGEST = 1024  # tokens of context at most
BATCH_ROWS, BATCH_TOKENS = 256, 1 << 14  # positions, and tokens of their contexts, in a batch at most
GAIN = 0.01  # share of the score that more context must gain to count


class Context(NamedTuple):
    """The score with a context of so many tokens."""

    tokens: int
    bits_per_byte: float


class Reach(NamedTuple):
    """The same positions scored with more and more context."""

    places: int
    contexts: list[Context]

    @property
    def enough(self) -> int:
        """The shortest context, in tokens, that no longer one that was tried improves on by 1 %."""
        best = math.inf
        enough = self.contexts[-1].tokens
        for tokens, score in reversed(self.contexts):
            best = min(best, score)
            if score * (1 - GAIN) <= best:
                enough = tokens
        return enough

    def to_json(self) -> dict[str, Any]:
        return {"places": self.places, "enough": self.enough, "contexts": [c._asdict() for c in self.contexts]}


def reach(
    run: str | Path, *, text: Corpus | None = None, positions: int = 500, opening: Opening | None = None
) -> Generator[Progress, None, Reach]:
    """Score `positions` tokens of `text`, or of the run's validation text, given the last 1, 2, 4, ... tokens only.

    Raises as `charlm.scoring.score_run` does, and `CorpusError` for a text of fewer than two tokens.
    """
    path = folder.find(run)
    writer = Writer.load(path, opening)
    writer.check_can_continue()
    if text:
        before, ids = 0, writer.tokenizer.encode("".join(text.chunks()))
    else:
        store = yield from run_text(folder.info(path))
        if not len(store.validation):
            raise CorpusError(f"{path} has no validation text; name a text with --text")
        training = store.train.ids[-LONGEST:]
        before, ids = len(training), np.concatenate([training, store.validation.ids])
    if len(ids) < 2:
        raise CorpusError(f"the text has {len(ids)} tokens; it needs 2 or more, one to see and one to guess")
    longest = min(LONGEST, writer.model.window or LONGEST, max(before, len(ids) // 2))
    targets, depths = places(max(before, longest), len(ids), positions), powers(longest)
    nats = yield from nats_by_context(writer.model, ids, targets, depths)
    sizes = np.array([len(token) for token in writer.tokenizer.tokens])
    bits = nats.sum(1) / math.log(2) / sizes[ids[targets]].sum()  # (K,) bits per byte
    return Reach(len(targets), [Context(k, value) for k, value in zip(depths, bits.tolist(), strict=True)])


def powers(longest: int) -> list[int]:
    """1, 2, 4, ... and `longest` itself."""
    return [1 << n for n in range((longest - 1).bit_length())] + [longest]


def places(first: int, end: int, count: int) -> NDArray[np.int64]:
    """Up to `count` positions from `first` to before `end`: a random one in each of `count` equal intervals, (P,)."""
    borders = np.linspace(first, end, min(count, end - first) + 1).astype(np.int64)
    return np.random.default_rng(0).integers(borders[:-1], borders[1:])


@torch.inference_mode()
def nats_by_context(
    model: LanguageModel, ids: NDArray[Any], targets: NDArray[np.int64], depths: Sequence[int]
) -> Generator[Progress, None, NDArray[np.float64]]:
    """Nats (K, P) of the ids at the positions `targets` (P,), given just the k tokens before, for the K `depths` k."""
    device = next(model.parameters()).device
    nats = np.zeros((len(depths), len(targets)))
    done, total = 0, sum(depths) * len(targets)
    for row, k in enumerate(depths):
        rows = max(1, min(BATCH_ROWS, BATCH_TOKENS // k))
        for start in range(0, len(targets), rows):
            batch = targets[start : start + rows]
            tokens = torch.from_numpy(ids[batch[:, None] + np.arange(-k, 1)].astype(np.int64)).to(device)  # (B, k + 1)
            nats[row, start : start + rows] = last_nats(model, tokens).cpu().numpy()
            done += k * len(batch)
            yield Progress("looking back", done, total)
    return nats


def last_nats(model: LanguageModel, tokens: torch.Tensor) -> torch.Tensor:
    """The cost in nats (B,) of the last of `tokens` (B, k + 1), given the k before it.

    An encoder-decoder encodes the first half of these and is fed the second, as it was trained; to other models that is
    the same as feeding all.
    """
    source, fed = tokens[:, :-1].tensor_split([(tokens.size(1) - 1) // 2], 1)
    hidden = model.features(fed, model.read(source)).hidden[:, -1]  # (B, D)
    return F.cross_entropy(model.head(hidden).float(), tokens[:, -1], reduction="none")
