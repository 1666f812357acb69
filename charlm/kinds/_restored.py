"""What a run makes of a held-out text that was damaged."""

from __future__ import annotations

import time
from collections.abc import Generator
from itertools import chain, islice
from typing import Any

from charlm.kinds._base import Trial
from charlm.kinds._quality import error_rate, quality
from charlm.progress import Progress, result
from charlm.sampling.settings import TranslateSettings
from charlm.text.store import Split

PIECES = 400  # that are restored, at most
SHOWN = 2  # while training


def damaged(writer: Any, part: Split, count: int) -> list[Any]:
    """The first pieces of a part, damaged as where it is scored."""
    return list(islice(chain.from_iterable(writer.objective.held_out(part.ids, writer.model.spec)), count))


def restore_part(writer: Any, part: Split, settings: TranslateSettings | None) -> Generator[Progress, None, Trial]:
    """How fast and how well the beginning of a part is restored, once it is damaged.

    `exact` is the share of pieces without an error, `cer` the character error rate, `cer_damaged` that of the damaged
    text, as if nothing were done about it.
    """
    pieces, decode = damaged(writer, part, PIECES), writer.tokenizer.decode
    began = time.perf_counter()
    restored = yield from writer.restoring([piece.source for piece in pieces], settings or TranslateSettings())
    seconds = time.perf_counter() - began
    written, clean = [piece.text for piece in restored], [decode(piece.clean) for piece in pieces]
    known = [decode(id for id in piece.source if id < writer.tokenizer.vocab_size) for piece in pieces]
    good = quality(written, clean)
    figures = {
        "exact": good.exact,
        "chrf": good.chrf,
        "cer": error_rate(written, clean),
        "cer_damaged": error_rate(known, clean),
        "pieces": len(pieces),
    }
    return Trial(speed=sum(map(len, written)) / seconds, figures=figures)


def restored_glimpse(writer: Any, part: Split) -> str:
    """The first damaged pieces of a part, and below each what was made of it."""
    sources = [piece.source for piece in damaged(writer, part, SHOWN)]
    restored = result(writer.restoring(sources, TranslateSettings()))
    return "\n\n".join(f"{piece.source.strip()}\n  → {piece.text.strip()}" for piece in restored)
