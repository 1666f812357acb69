"""What counting and compressing reach on the same text, to compare a model with.

The n-gram is interpolated Witten-Bell: with T(h) the number of distinct characters seen after the context h, and h'
the same context without its oldest character,

    p_k(c | h) = (count(hc) + T(h) p_{k-1}(c | h')) / (count(h) + T(h)),        p_0(c) = 1 / size of the alphabet

Witten and Bell (1991), The Zero-Frequency Problem, doi 10.1109/18.87000 (method C); Bell, Cleary and Witten (1990),
Text Compression. Order 0 is the uniform distribution, order 1 the unigram.
"""

from __future__ import annotations

import lzma
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.text.tokenizers import utf8
from charlm.text.units import code_points

LONGEST_TRAIN, LONGEST_VALIDATION = 5_000_000, 1_000_000  # characters: some 20 seconds, 0.6 GB


class Baselines(NamedTuple):
    """Bits per byte of the validation text; lower is better."""

    uniform: float  # every character equally likely
    unigram: float
    ngram6: float
    xz: float

    def named(self) -> dict[str, float]:
        """The values by the names that people use."""
        return dict(zip(("uniform", "unigram", "6-gram", "xz -9e"), self, strict=True))


def baselines(train: str, validation: str) -> Baselines | None:
    """Bits per byte that every method needs for `validation`; `None` if that is empty.

    Every method learns from `train` alone, as a model does; the n-gram and xz may look back into all text before. The
    n-grams' alphabet is that of both texts, so a character that `train` lacks has a finite cost. Longer texts are cut
    to the last 5 million characters of `train` and the first million of `validation`.
    """
    if not validation:
        return None
    train, validation = train[-LONGEST_TRAIN:], validation[:LONGEST_VALIDATION]
    return Baselines(
        uniform=ngram(train, validation, order=0),
        unigram=ngram(train, validation, order=1),
        ngram6=ngram(train, validation, order=6),
        xz=xz(train, validation),
    )


def ngram(train: str, validation: str, *, order: int) -> float:
    """Bits per byte of `validation` under an n-gram of this order counted on `train`."""
    return float(np.log2(1 / witten_bell(train, validation, order=order)).sum()) / len(utf8(validation))


def xz(train: str, validation: str) -> float:
    """Bits per byte that `validation` adds to `train` when both are packed together by `xz -9e`."""
    texts = utf8(train), utf8(train + validation)
    with ThreadPoolExecutor() as pool:  # lzma lets go of the interpreter lock
        alone, both = pool.map(lambda text: len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)), texts)
    return 8 * (both - alone) / len(utf8(validation))


def witten_bell(train: str, validation: str, *, order: int) -> NDArray[np.float64]:
    """Probability (N,) of each character of `validation`, given the `order` - 1 before it in `train` + `validation`."""
    alphabet, ids = np.unique(code_points(train + validation), return_inverse=True)
    trained = len(train)
    probability = np.full(len(validation), 1 / len(alphabet))
    context = np.zeros(len(ids), np.int64)  # (all characters,) id of the context before it; first the empty one
    for _ in range(order):
        grams, gram = np.unique(context * len(alphabet) + ids, return_inverse=True)
        count = np.bincount(gram[:trained], minlength=len(grams))  # count(hc)
        contexts = int(context.max()) + 1
        context_count = np.bincount(context[:trained], minlength=contexts)  # count(h)
        distinct = np.bincount(grams[count > 0] // len(alphabet), minlength=contexts)  # T(h)
        h, hc = context[trained:], gram[trained:]
        total = context_count[h] + distinct[h]  # 0 for an unseen context: the shorter context's probability stays
        np.divide(count[hc] + distinct[h] * probability, total, out=probability, where=total > 0)
        # The next longer context of a character is the gram that ends before it; the first character gets a new id.
        context = np.concatenate(([len(grams)], gram[:-1]))
    return probability
