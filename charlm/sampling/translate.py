"""Lines in, lines out: sources are encoded, read together with others alike in length, and what is written decoded."""

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

AT_ONCE = 4096  # tokens of sources that are read together, times the hypotheses of each
ROWS = 256  # hypotheses that are written together


class Translation(NamedTuple):
    """What was written for a source."""

    text: str  # one line
    ids: list[int]  # its tokens, without the newline
    log_probability: float  # nats under the model itself
    finished: bool  # it ended by itself, and was not cut off
    source: Ids  # the tokens that were read, with their newline
    cut: bool  # the source was longer than that


def translating(
    model: LanguageModel,
    vocabularies: Vocabularies,
    sources: Sequence[str],
    settings: TranslateSettings,
    *,
    first: int = 0,
    limit: int | None = None,
) -> Generator[Progress, None, list[list[Translation]]]:
    """Of each source, a line of text, the `n_best` best translations, the best first.

    What is drawn depends on the seed and the number of the line, where the first one's is `first`. A source that is
    longer than the model can read is cut off there, and so is what is written, or at `limit` tokens. Raises
    `VocabularyError` for characters that the vocabulary lacks, unless `unknown` is `skip` or `nearest`.
    """
    lengths, newline = model.spec.lengths, vocabularies.target.newline  # tokens of a line with its newline
    longest, limit = lengths.source, min(limit or lengths.target, lengths.target)
    search = Search(newline, limit, settings.beam, settings.length_penalty, settings.n_best)
    whole = [vocabularies.source.encode(one_line(source), settings.unknown) for source in sources]
    lines = [np.append(ids[: longest - 1], vocabularies.source.newline) for ids in whole]
    translations: dict[int, list[Translation]] = {}
    order = sorted(range(len(lines)), key=lambda at: len(lines[at]))
    while order:
        rows = max(1, min(ROWS, AT_ONCE // len(lines[order[-1]])) // settings.beam)
        some = order[-rows:]
        del order[-rows:]
        source = torch.from_numpy(padded([lines[at] for at in some])).to(next(model.parameters()).device)
        if settings.beam > 1:
            hypotheses = beam_search(model, source, search)
        else:
            pick = Picker(settings, streams(settings.seed or 0, [first + at for at in some], source.device))
            hypotheses = [[best] for best in write_lines(model, source, pick, newline=newline, limit=limit)]
        for at, each in zip(some, hypotheses, strict=True):
            cut = len(whole[at]) >= longest
            translations[at] = [
                Translation(one_line(vocabularies.target.decode(one.ids)), *one, lines[at], cut) for one in each
            ]
        yield Progress("translating", len(translations), len(lines))
    return [translations[at] for at in range(len(lines))]


def one_line(text: str) -> str:
    """A newline is a blank where it does not end the text: a model may write its byte where none is meant."""
    return text.replace("\r\n", "\n").removesuffix("\n").replace("\n", " ")
