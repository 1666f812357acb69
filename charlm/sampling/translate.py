"""From lines of text to their translations: encode, translate in batches of similar length, and decode."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from charlm.model import LanguageModel
from charlm.progress import Progress
from charlm.sampling.beam import Search, beam_search
from charlm.sampling.filters import Picker
from charlm.sampling.lines import write_lines
from charlm.sampling.noise import streams
from charlm.sampling.settings import TranslateSettings
from charlm.text.buckets import padded
from charlm.text.units import Ids
from charlm.text.vocabulary import Vocabularies

BATCH_TOKENS = 4096  # of the sources in a batch, times the hypotheses of each
BATCH_ROWS = 256  # hypotheses in a batch


class Translation(NamedTuple):
    """A line that was written for a source."""

    text: str  # one line
    ids: list[int]  # its ids, without the newline
    log_probability: float  # nats under the model itself
    finished: bool  # it ended with a newline, and was not cut off
    source: Ids  # (S,) the ids that were read, with their newline
    cut: bool  # the source was longer, and cut off


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
    search = Search(newline, limit, settings.beam, settings.length_penalty, settings.n_best)
    encoded = [vocabularies.source.encode(one_line(source), settings.unknown) for source in sources]
    lines = [np.append(ids[: longest - 1], vocabularies.source.newline) for ids in encoded]
    translations: dict[int, list[Translation]] = {}
    order = sorted(range(len(lines)), key=lambda number: len(lines[number]))
    while order:
        rows = max(1, min(BATCH_ROWS, BATCH_TOKENS // len(lines[order[-1]])) // settings.beam)
        batch = order[-rows:]
        del order[-rows:]
        source = torch.from_numpy(padded([lines[number] for number in batch])).to(next(model.parameters()).device)
        if settings.beam > 1:
            hypotheses = beam_search(model, source, search)
        else:
            pick = Picker(settings, streams(settings.seed or 0, [first + number for number in batch], source.device))
            hypotheses = [[best] for best in write_lines(model, source, pick, newline=newline, limit=limit)]
        for number, lines_of in zip(batch, hypotheses, strict=True):
            cut = len(encoded[number]) >= longest
            translations[number] = [
                Translation(one_line(vocabularies.target.decode(line.ids)), *line, lines[number], cut)
                for line in lines_of
            ]
        yield Progress("translating", len(translations), len(lines))
    return [translations[number] for number in range(len(lines))]


def one_line(text: str) -> str:
    """`text` without a newline at its end, and with spaces for other newlines: a model may write such bytes."""
    return text.replace("\r\n", "\n").removesuffix("\n").replace("\n", " ")
