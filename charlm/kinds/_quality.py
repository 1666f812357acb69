"""The quality of what was written against references, of all together and by the length of their sources.

BLEU: Papineni et al. 2002, doi:10.3115/1073083.1073135; chrF: Popović 2015, doi:10.18653/v1/W15-3049; both by sacrebleu
(Post 2018, arXiv:1804.08771) on the text as it is, from 0 to 100. Character error rate: characters to be changed, added
or taken away (Levenshtein 1966) per character of the references.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.kinds._base import Band
from charlm.text.units import code_points

BANDS = 10  # of source lengths, at most


class Quality(NamedTuple):
    """The quality of translations."""

    exact: float  # share that is equal to the reference
    bleu: float | None  # None without sacrebleu, and if no reference has four words
    bleu_lower: float | None  # both sides in lower case
    chrf: float | None


def quality(written: Sequence[str], references: Sequence[str]) -> Quality:
    exact = sum(a == b for a, b in zip(written, references, strict=True)) / len(written)
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        return Quality(exact, None, None, None)

    def score(metric: Any) -> float:
        return float(metric.corpus_score(list(written), [list(references)]).score)

    if not any(len(reference.split()) >= 4 for reference in references):  # BLEU needs 4-grams
        return Quality(exact, None, None, score(CHRF()))
    return Quality(exact, score(BLEU()), score(BLEU(lowercase=True)), score(CHRF()))


def error_rate(written: Sequence[str], references: Sequence[str]) -> float:
    """The character error rate, from 0; more than 1 if too much was written."""
    errors = sum(distance(a, b) for a, b in zip(written, references, strict=True))
    return errors / max(1, sum(map(len, references)))


def distance(a: str, b: str) -> int:
    """The fewest characters to be changed, added or taken away to make one text of the other."""
    codes, steps = code_points(b), np.arange(len(b) + 1)
    row = steps
    for code in code_points(a):
        above = np.append(row[0] + 1, np.minimum(row[1:] + 1, row[:-1] + (codes != code)))
        row = np.minimum.accumulate(above - steps) + steps  # or with the characters of b before it added
    return int(row[-1])


def by_length(
    lengths: NDArray[np.int64],
    nats: NDArray[np.float64],
    tokens: NDArray[np.int64],
    written: Sequence[str],
    references: Sequence[str],
) -> list[Band]:
    """The quality by `lengths` (pairs,) of the sources; `nats` and `tokens` (pairs,) are those of the references."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    width = max(1, math.ceil((longest - shortest + 1) / BANDS))
    bands = []
    for first in range(shortest, longest + 1, width):
        inside = np.flatnonzero((first <= lengths) & (lengths < first + width)).tolist()
        if inside:
            good = quality([written[i] for i in inside], [references[i] for i in inside])
            mean = float(nats[inside].sum() / tokens[inside].sum())
            bands.append(Band(first, first + width - 1, len(inside), mean, good.exact, good.bleu, good.chrf))
    return bands
