"""What a model writes on its way through a training."""

from __future__ import annotations

import time
from itertools import islice

from charlm.sampling.settings import SampleSettings
from charlm.text.pair_store import PairSplit
from charlm.writer import Writer

TOKENS, SECONDS = 300, 0.4  # of a running text, whichever ends first
PAIRS = 4


def written(writer: Writer, seed: int) -> str:
    """A little text, cut short where writing is slow."""
    began, texts = time.monotonic(), []
    for piece in islice(writer.pieces("", SampleSettings(), seed=seed), TOKENS):
        texts.append(piece.texts[0])
        if time.monotonic() - began > SECONDS:
            break
    return "".join(texts)


def translated(writer: Writer, part: PairSplit) -> str:
    """The first pairs of a part: each source, and below it what was written for it."""
    sources, targets = part.texts(writer.vocabularies, PAIRS)
    limit = 2 * max(len(writer.tokenizer.encode(target)) for target in targets) + 10  # it may not know yet how to end
    found = writer.translate(sources, limit=limit)
    return "\n".join(f"{source}\n  {best.text}" for source, (best, *_) in zip(sources, found, strict=True))
