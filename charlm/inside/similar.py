"""The places of a training text where a network's vector is nearest to the one at the end of a text."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from charlm.errors import SettingsError
from charlm.inside import refuse_empty
from charlm.model import Encoder, LanguageModel
from charlm.progress import Progress
from charlm.scoring import DECODED
from charlm.text.store import Store
from charlm.text.tokenizers import Tokenizer
from charlm.text.units import Ids
from charlm.writer import Writer, unknown_hint

ROWS, AT_ONCE = 64, 1 << 14  # parts of the text that are read side by side, and tokens that are read at once
APART = 20  # tokens that two places shown are apart, at least
BEFORE, AFTER = 40, 20  # characters shown around a place

Some = Iterator[tuple[NDArray[np.int64], Tensor]]
"""Places, numbers of tokens (n,), and their vectors (n, D)."""


class Place(NamedTuple):
    cosine: float
    line: int  # of the training text, from 1
    char: int  # characters of the training text before the place
    before: str  # what stands there
    after: str


class Similar(NamedTuple):
    text: str
    places: list[Place]  # the nearest first
    compared: int  # places
    total: int  # places in the training text

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "places": [place._asdict() for place in self.places]}


def similar(
    writer: Writer, store: Store, text: str, *, top: int = 10, read: int = 2_000_000
) -> Generator[Progress, None, Similar]:
    """The `top` places after a token of the training text whose vectors have the highest cosine with that of `text`.

    A place counts by the vector of its last layer. Of a language model that knows all that stands before; all places
    are compared, or those in equal parts of the text, of `read` tokens together. What reads both ways is shown as many
    tokens as `text` has, each time; of so many places evenly apart that it reads `read` tokens.

    Raises `SettingsError` for an empty text, one that the network cannot read at once, and a network that reads none;
    `VocabularyError` for characters that the vocabulary lacks.
    """
    refuse_empty(text, None)
    with unknown_hint():
        asked = writer.tokenizer.encode(text)
    ids, model = store.train.ids, writer.model
    if isinstance(model, LanguageModel):
        own, some = (
            as_read(model, np.insert(asked, 0, writer.tokenizer.start), len(asked) + 1),
            as_read(model, ids, read),
        )
    elif isinstance(model, Encoder):
        refuse_longer(model, asked)
        own, some = in_pieces(model, asked, len(asked), len(asked)), in_pieces(model, ids, len(asked), read)
    else:
        raise SettingsError(
            "this run has a vector for each token, whatever stands around it: charlm neighbours finds the nearest words"
        )
    *_, (_, vectors) = own
    query = F.normalize(vectors[-1].float(), dim=0)
    places, cosines, done = list[NDArray[np.int64]](), list[NDArray[np.float32]](), 0
    for numbers, vectors in some:
        places.append(numbers)
        cosines.append((F.normalize(vectors.float(), dim=1) @ query).cpu().numpy())
        done += len(numbers)
        yield Progress("comparing places", int(numbers.max()), len(ids))
    best = apart(np.concatenate(places), np.concatenate(cosines), top)
    return Similar(text, shown(best, ids, writer.tokenizer), done, len(ids))


def refuse_longer(model: Encoder, asked: Ids) -> None:
    """Raise `SettingsError` for a text that does not fit into a window."""
    if model.window is not None and len(asked) > model.window:
        raise SettingsError(
            f"the text has {len(asked)} tokens and the window of this run holds {model.window}; give a shorter one",
            field="text",
        )


@torch.inference_mode()
def as_read(model: LanguageModel, ids: Any, read: int) -> Some:
    """After every token, in rows that are read side by side from their beginnings on."""
    rows = max(1, min(ROWS, len(ids) // 1024))
    length, starts = min(read, len(ids)) // rows, np.arange(rows) * len(ids) // rows
    state, device = model.start(rows), next(model.parameters()).device
    for columns in np.array_split(np.arange(length), max(1, -(-length * rows // AT_ONCE))):
        places = starts[:, None] + columns  # (R, T)
        hidden, state, _ = model.features(torch.from_numpy(ids[places].astype(np.int64)).to(device), state)
        yield places.ravel(), hidden.flatten(0, 1)


@torch.inference_mode()
def in_pieces(model: Encoder, ids: Any, size: int, read: int) -> Some:
    """After the last of `size` tokens that are read alone, at places evenly apart."""
    count, device = max(1, min(len(ids) - size + 1, read // size)), next(model.parameters()).device
    ends = np.linspace(min(size, len(ids)) - 1, len(ids) - 1, count).astype(np.int64)
    for places in np.array_split(ends, max(1, -(-count * size // AT_ONCE))):
        pieces = ids[np.maximum(places[:, None] + np.arange(1 - size, 1), 0)].astype(np.int64)
        yield places, model.encode(torch.from_numpy(pieces).to(device))[:, -1]


def apart(places: NDArray[np.int64], cosines: NDArray[np.float32], top: int) -> list[tuple[int, float]]:
    """The `top` (place, cosine), the nearest first, none close to a nearer one."""
    best: list[tuple[int, float]] = []
    for number in np.argsort(-cosines, kind="stable").tolist():
        place = int(places[number])
        if all(abs(place - other) >= APART for other, _ in best):
            best.append((place, float(cosines[number])))
            if len(best) == top:
                break
    return best


def shown(best: Sequence[tuple[int, float]], ids: Any, tokenizer: Tokenizer) -> list[Place]:
    """With what stands around each place, and where that is."""
    newlines = np.array([token.count(b"\n") for token in tokenizer.tokens])
    chars = np.array([sum(byte & 0xC0 != 0x80 for byte in token) for token in tokenizer.tokens])  # that begin in it
    counts, at, where = np.zeros(2, np.int64), 0, dict[int, tuple[int, int]]()
    for place in sorted(place for place, _ in best):
        for start in range(at, place + 1, DECODED):
            piece = ids[start : min(start + DECODED, place + 1)]
            counts += newlines[piece].sum(), chars[piece].sum()
        at, ended = place + 1, int(newlines[ids[place]])
        where[place] = 1 + int(counts[0]) - ended, int(counts[1])
    return [
        Place(
            cosine,
            *where[place],
            tokenizer.decode(ids[max(0, place + 1 - BEFORE) : place + 1].tolist())[-BEFORE:],
            tokenizer.decode(ids[place + 1 : place + 1 + AFTER].tolist())[:AFTER],
        )
        for place, cosine in best
    ]
