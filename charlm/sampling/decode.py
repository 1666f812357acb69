"""From sources, as ids, to what a model writes for them, in batches of similar length."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch

from charlm.model import LanguageModel
from charlm.progress import Progress
from charlm.sampling.beam import Search, beam_search
from charlm.sampling.filters import Picker
from charlm.sampling.lines import Hypothesis, write_lines
from charlm.sampling.noise import streams
from charlm.sampling.settings import TranslateSettings
from charlm.text.buckets import padded
from charlm.text.units import Ids

BATCH_TOKENS = 4096  # of the sources in a batch, times the hypotheses of each
BATCH_ROWS = 256  # hypotheses in a batch


def decoding(
    model: LanguageModel,
    sources: Sequence[Ids],
    settings: TranslateSettings,
    *,
    end: int,
    limit: int,
    first: int = 0,
    what: str,
) -> Generator[Progress, None, list[list[Hypothesis]]]:
    """The `n_best` hypotheses for every source, one or more ids (S,), the best first; `what` names the work.

    `end` is the id that stands before a hypothesis and ends it, `limit` the most tokens of one, `end` included. What is
    drawn for a source depends on the seed and on its number, which counts from `first`.
    """
    search = Search(end, limit, settings.beam, settings.length_penalty, settings.n_best)
    results: dict[int, list[Hypothesis]] = {}
    order = sorted(range(len(sources)), key=lambda number: len(sources[number]))
    while order:
        rows = max(1, min(BATCH_ROWS, BATCH_TOKENS // len(sources[order[-1]])) // settings.beam)
        batch = order[-rows:]
        del order[-rows:]
        source = torch.from_numpy(padded([sources[number] for number in batch])).to(next(model.parameters()).device)
        if settings.beam > 1:
            hypotheses = beam_search(model, source, search)
        else:
            pick = Picker(settings, streams(settings.seed or 0, [first + number for number in batch], source.device))
            hypotheses = [[best] for best in write_lines(model, source, pick, newline=end, limit=limit)]
        results |= zip(batch, hypotheses, strict=True)
        yield Progress(what, len(results), len(sources))
    return [results[number] for number in range(len(sources))]
