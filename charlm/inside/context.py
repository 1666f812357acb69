"""How far back a model really looks: its score when it sees only the last few tokens.

After Khandelwal, He, Qi & Jurafsky 2018, arXiv:1805.04623, section 4, who call the context beyond which nothing is
gained the effective one.
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
from charlm.scoring import same_text
from charlm.text.corpus import Corpus
from charlm.writer import Writer

FURTHEST = 1024  # tokens that a guess is given at most
ROWS, FED = 256, 1 << 14  # so many guesses, and tokens before them, are in work at once
GAIN = 0.01  # what more context must gain to count


class Context(NamedTuple):
    """A score with so much of the text in sight."""

    tokens: int
    bits_per_byte: float


class Reach(NamedTuple):
    """The same places scored with more and more context."""

    places: int
    contexts: list[Context]

    @property
    def enough(self) -> int:
        """The fewest tokens after which no context that was tried gains 1 % more."""
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
    """Score places of `text`, or of the run's own validation text, with the last 1, 2, 4, ... tokens in sight.

    Raises as `charlm.scoring.score_run` does, and `CorpusError` for a text of fewer than two tokens.
    """
    path = folder.find(run)
    writer = Writer.load(path, opening)
    if text:
        before, ids = 0, writer.tokenizer.encode("".join(text.chunks()))
    else:
        store = yield from same_text(folder.info(path))
        if not len(store.validation):
            raise CorpusError(f"{path} has no validation text; name a text with --text")
        training = store.train.ids[-FURTHEST:]
        before, ids = len(training), np.concatenate([training, store.validation.ids])
    if len(ids) < 2:
        raise CorpusError(f"the text has {len(ids)} tokens; it needs 2 or more, one to see and one to guess")
    most = min(FURTHEST, writer.model.window or FURTHEST, max(before, len(ids) // 2))
    at, depths = places(max(before, most), len(ids), positions), powers(most)
    nats = yield from nats_by_context(writer.model, ids, at, depths)
    sizes = np.array([len(token) for token in writer.tokenizer.tokens])
    bits = nats.sum(1) / math.log(2) / sizes[ids[at]].sum()  # (K,) bits per byte
    return Reach(len(at), [Context(k, value) for k, value in zip(depths, bits.tolist(), strict=True)])


def powers(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    return [1 << n for n in range((most - 1).bit_length())] + [most]


def places(first: int, end: int, count: int) -> NDArray[np.int64]:
    """Up to `count` different places from `first` to before `end`: one at random in each of as many equal stretches."""
    borders = np.linspace(first, end, min(count, end - first) + 1).astype(np.int64)
    return np.random.default_rng(0).integers(borders[:-1], borders[1:])


@torch.inference_mode()
def nats_by_context(
    model: LanguageModel, ids: NDArray[Any], at: NDArray[np.int64], depths: Sequence[int]
) -> Generator[Progress, None, NDArray[np.float64]]:
    """(K, P) nats of each of `ids` at these places (P,), guessed from just the k tokens before it, for each depth k."""
    device = next(model.parameters()).device
    nats = np.zeros((len(depths), len(at)))
    done, total = 0, sum(depths) * len(at)
    for row, k in enumerate(depths):
        rows = max(1, min(ROWS, FED // k))
        for start in range(0, len(at), rows):
            some = at[start : start + rows]
            seen = torch.from_numpy(ids[some[:, None] + np.arange(-k, 1)].astype(np.int64)).to(device)  # (B, k + 1)
            nats[row, start : start + rows] = guess(model, seen).cpu().numpy()
            done += k * len(some)
            yield Progress("looking back", done, total)
    return nats


def guess(model: LanguageModel, seen: torch.Tensor) -> torch.Tensor:
    """The cost in nats (B,) of the last token of `seen` (B, k + 1), from a fresh state.

    Half is read and half is fed, which to most models is the same; one with an encoder was trained so.
    """
    source, tokens = seen[:, :-1].tensor_split([(seen.size(1) - 1) // 2], 1)
    hidden = model.features(tokens, model.read(source)).hidden[:, -1]  # (B, D)
    return F.cross_entropy(model.head(hidden).float(), seen[:, -1], reduction="none")
