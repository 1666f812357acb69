"""From lines of text to their translations."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from charlm.model import LanguageModel
from charlm.progress import Progress
from charlm.sampling.decode import decoding
from charlm.sampling.settings import TranslateSettings
from charlm.text.units import Ids
from charlm.text.vocabulary import Vocabularies


class Translation(NamedTuple):
    """A line that was written for a source."""

    text: str  # one line
    ids: list[int]  # its ids, without the newline
    log_probability: float  # nats under the model itself
    finished: bool  # it ended with a newline, and was not cut off
    source: Ids  # (S,) the ids that were read, with their newline
    cut: bool  # the source was longer, and cut off

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "log_probability": self.log_probability, "finished": self.finished}


def translating(
    model: LanguageModel,
    vocabularies: Vocabularies,
    sources: Sequence[str],
    settings: TranslateSettings,
    *,
    first: int = 0,
    limit: int | None = None,
) -> Generator[Progress, None, list[list[Translation]]]:
    """The `n_best` translations of every source (a line of text), the best first.

    A sampled translation depends on the seed and on the number of its line, which counts from `first`. A source that is
    too long for the model is cut off, and a translation at the model's limit or at `limit` tokens. Raises
    `VocabularyError` for characters that the vocabulary lacks, unless `unknown` is `skip` or `nearest`.
    """
    lengths, newline = model.spec.lengths, vocabularies.target.newline  # in tokens, newline included
    longest, limit = lengths.source, min(limit or lengths.target, lengths.target)
    encoded = [vocabularies.source.encode(one_line(source), settings.unknown) for source in sources]
    lines = [np.append(ids[: longest - 1], vocabularies.source.newline) for ids in encoded]
    hypotheses = yield from decoding(model, lines, settings, end=newline, limit=limit, first=first, what="translating")
    return [
        [
            Translation(one_line(vocabularies.target.decode(best.ids)), *best, line, len(ids) >= longest)
            for best in bests
        ]
        for bests, line, ids in zip(hypotheses, lines, encoded, strict=True)
    ]


def one_line(text: str) -> str:
    """`text` without a newline at its end, and with spaces for other newlines: a model may write such bytes."""
    return text.replace("\r\n", "\n").removesuffix("\n").replace("\n", " ")
