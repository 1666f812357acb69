"""Which expert gets which tokens: the load of each, and what it reads.

Fedus, Zoph & Shazeer 2022, arXiv:2101.03961: the load that section 2.2 balances; Zoph et al. 2022, arXiv:2202.08906,
section 7: tokens by the expert that gets them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.model import LanguageModel
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.scoring import part_to_score
from charlm.text.corpus import Corpus
from charlm.text.units import Ids
from charlm.writer import Writer

LONGEST = 200_000  # tokens that are read at most
AT_ONCE = 1 << 14  # tokens


class Share(NamedTuple):
    """Of the times that a token stands in the text, those when an expert gets it."""

    token: str
    times: int
    of_all: float  # in (0, 1]


class Expert(NamedTuple):
    load: float  # share of all tokens
    tokens: list[Share]  # those that it gets most often, the most frequent first


class Load(NamedTuple):
    """A text as the routers of a run distribute it."""

    tokens: int  # read, the first
    of: int  # that the text has
    layers: dict[int, list[Expert]]  # by their number from 1, those that have experts

    def to_json(self) -> dict[str, Any]:
        layers = {
            number: [{"load": e.load, "tokens": [share._asdict() for share in e.tokens]} for e in experts]
            for number, experts in self.layers.items()
        }
        return {"tokens": self.tokens, "of": self.of, "layers": layers}


def load(
    run: str | Path, *, text: Corpus | None = None, top: int = 8, opening: Opening | None = None
) -> Generator[Progress, None, Load]:
    """The load of a run's experts on `text`, or on its validation text, and the `top` tokens of each.

    At most the first `LONGEST` tokens are read. Raises `SettingsError` for a run without experts, and otherwise as
    `charlm.scoring.score_run`.
    """
    path = folder.find(run)
    writer = Writer.load(path, opening)
    writer.check_can_continue()
    writer.model.routing(torch.zeros(1, 1, dtype=torch.long, device=writer.device))  # raises where there are none
    data, _ = yield from part_to_score(folder.info(path), writer.vocabularies, corpus=text)
    ids = data.ids[:LONGEST].astype(np.int64)
    counts = yield from count(writer.model, ids)
    tokens = writer.tokenizer.tokens
    names = [token.decode("utf-8", "replace") for token in tokens]
    layers = {number: [expert(row, table, names, top) for row in table] for number, table in counts.items()}
    return Load(len(ids), len(data), layers)


def expert(row: NDArray[np.int64], table: NDArray[np.int64], names: list[str], top: int) -> Expert:
    """One of the rows of a `table` (N, V): how often each token came to it."""
    most = [token for token in np.argsort(-row, kind="stable")[:top].tolist() if row[token]]
    everywhere = table.sum(0)
    shares = [Share(names[token], int(row[token]), float(row[token] / everywhere[token])) for token in most]
    return Expert(float(row.sum() / table.sum()), shares)


@torch.inference_mode()
def count(model: LanguageModel, ids: Ids) -> Generator[Progress, None, dict[int, NDArray[np.int64]]]:
    """How often each expert gets each token, (N, V) by layer. Windows begin on a blank page, as in training."""
    device = next(model.parameters()).device
    counts: dict[int, NDArray[np.int64]] = {}
    done = 0
    for rows in windows(ids, model.spec.lengths.window):
        for number, shares in model.routing(torch.from_numpy(rows).to(device)).items():
            table = counts.setdefault(number, np.zeros((shares.size(-1), model.spec.vocab_size), np.int64))
            np.add.at(table, (shares.argmax(-1).cpu().numpy(), rows), 1)
        done += rows.size
        yield Progress("reading", done, len(ids))
    return counts


def windows(ids: Ids, size: int) -> Iterator[Ids]:
    """`ids` in rows of a window (B, W), and what is left of them in a shorter one."""
    whole = len(ids) // size * size
    rows = ids[:whole].reshape(-1, size)
    step = max(1, AT_ONCE // size)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
    if whole < len(ids):
        yield ids[None, whole:]
