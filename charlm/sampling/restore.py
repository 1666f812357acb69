"""From a damaged text to a clean one, in pieces that a model reads at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from charlm.config import DataSpec
from charlm.model import LanguageModel
from charlm.objectives._restoring import GAP, Restoring
from charlm.progress import Progress
from charlm.sampling.decode import decoding
from charlm.sampling.settings import TranslateSettings
from charlm.text.tokenizers import Tokenizer

TYPED = "[MASK]"  # a gap, as it is typed and shown


class Restored(NamedTuple):
    """A piece of a text."""

    source: str  # as it was read
    text: str  # as it was written
    log_probability: float  # nats under the model itself
    finished: bool  # what was written has an end, and was not cut off


def pieces_of(text: str, objective: Restoring, tokenizer: Tokenizer, spec: DataSpec, unknown: str) -> list[list[int]]:
    """The ids of a text, with symbols for its gaps, in pieces with room for what is missing.

    Raises `VocabularyError` as `Tokenizer.encode` does, `SettingsError` for gaps if the model never met any.
    """
    parts = [tokenizer.encode(part, unknown).tolist() for part in text.split(TYPED)]
    if len(parts) > 1 and tokenizer.joins_blanks:
        # A blank before a gap belongs to the word that is missing, as it does where such words were hidden.
        blank = tokenizer.encode(" ").tolist()
        parts[:-1] = [part[: -len(blank)] if part[-len(blank) :] == blank else part for part in parts[:-1]]
    ids = [id for part in parts for id in (*part, GAP)][:-1]
    fits = partial(objective.fits, lengths=spec.lengths)
    return [objective.source(piece, spec) for piece in cut(ids, fits, tokenizer.tokens)]


def cut(ids: list[int], fits: Callable[[int, int], bool], texts: Sequence[bytes]) -> Iterator[list[int]]:
    """Pieces with numbers of tokens and gaps that fit, or of one id, which end with a line or a word if they can."""
    start = 0
    while start < len(ids):
        end, counts = start, [0, 0]
        while end < len(ids):
            counts[ids[end] == GAP] += 1
            if end > start and not fits(*counts):
                break
            end += 1
        if end < len(ids):
            end = border(ids, texts, (start + end + 1) // 2, end)
        yield ids[start:end]
        start = end


def border(ids: list[int], texts: Sequence[bytes], first: int, last: int) -> int:
    """The last place from `first` to `last` where a line begins, or else a word, or else `last`."""

    def around(place: int) -> tuple[bytes, bytes]:
        """The tokens before and after it; a gap has no text."""
        before, after = (texts[id] if id != GAP else b"" for id in ids[place - 1 : place + 1])
        return before, after

    places = {place: around(place) for place in range(last, first - 1, -1)}
    words = [place for place, (before, after) in places.items() if begins_word(before, after)]
    lines = (place for place in words if places[place][0].endswith(b"\n"))
    return next(lines, next(iter(words), last))


def begins_word(before: bytes, token: bytes) -> bool:
    """Whether a word, or a gap, begins with a token, or behind the blank that it begins with."""
    return not token.isspace() and (before[-1:].isspace() or token[:1].isspace())


def restoring(
    model: LanguageModel,
    objective: Restoring,
    tokenizer: Tokenizer,
    sources: Sequence[list[int]],
    settings: TranslateSettings,
    *,
    first: int = 0,
) -> Generator[Progress, None, list[Restored]]:
    """What a model makes of damaged pieces, ids with symbols; a drawn one depends on its number, from `first` on."""
    spec = model.spec
    lines = [np.array(source, np.int64) for source in sources]
    written = yield from decoding(
        model, lines, settings, end=spec.vocab_size, limit=spec.lengths.target, first=first, what="restoring"
    )
    return [
        Restored(
            shown(source, tokenizer),
            tokenizer.decode(objective.restored(source, best.ids, spec)),
            best.log_probability,
            best.finished,
        )
        for source, (best, *_) in zip(sources, written, strict=True)
    ]


def shown(source: list[int], tokenizer: Tokenizer) -> str:
    """A damaged piece as text, with gaps as they are typed."""
    pieces = [tokenizer.tokens[id] if id < tokenizer.vocab_size else TYPED.encode() for id in source]
    return b"".join(pieces).decode("utf-8", "charlm")
