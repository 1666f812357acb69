"""The words nearest to a word, and analogies, by the vectors of a run's embedding.

Nearness is the cosine. An analogy adds and subtracts vectors of length 1 (Mikolov, Yih & Zweig 2013, "Linguistic
Regularities in Continuous Space Word Representations", aclanthology.org/N13-1090, section 4): the word nearest to
king - man + woman, of those that were not given.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import SettingsError, VocabularyError
from charlm.text.tokenizers import WordTokenizer
from charlm.writer import Writer

SIGNS = {"+": 1.0, "-": -1.0}
EXAMPLE = "king - man + woman"
SUGGESTED = 5  # spellings


class Term(NamedTuple):
    sign: str  # "+" or "-"
    word: str


class Near(NamedTuple):
    word: str
    cosine: float


class Nearest(NamedTuple):
    """The words nearest to a sum of others."""

    terms: list[Term]
    words: list[Near]  # the nearest first
    compared: int  # words, without those of the terms

    def to_json(self) -> dict[str, Any]:
        terms, words = ([part._asdict() for part in parts] for parts in (self.terms, self.words))
        return {"terms": terms, "words": words, "compared": self.compared}


def parse(expression: str) -> list[Term]:
    """The terms of `king - man + woman`. Raises `SettingsError` unless words and signs take turns."""
    parts = expression.split()
    signs, words = ["+", *parts[1::2]], parts[::2]
    if len(signs) != len(words) or not set(signs) <= SIGNS.keys() or set(words) & SIGNS.keys():
        raise SettingsError(
            f"an analogy is words with + or - between them, blanks around each, such as {EXAMPLE}; got {expression!r}"
        )
    return [Term(sign, word) for sign, word in zip(signs, words, strict=True)]


@torch.inference_mode()
def nearest(writer: Writer, terms: Sequence[Term], top: int = 10) -> Nearest:
    """The `top` words whose vectors are nearest to the sum of the terms'.

    Raises `SettingsError` for a run whose tokens are no words, `VocabularyError` for a word that is none of its tokens.
    """
    words, vectors = word_vectors(writer)
    numbers = {word: number for number, word in enumerate(words)}
    for term in terms:
        if term.word not in numbers:
            raise VocabularyError(unknown_message(term.word, words))
    given = [numbers[term.word] for term in terms]
    signs = torch.tensor([SIGNS[term.sign] for term in terms], device=vectors.device)
    cosines = vectors @ F.normalize(signs @ vectors[given], dim=0)  # (N,)
    cosines[given] = -torch.inf
    best = cosines.topk(min(top, len(words) - len(set(given))))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Nearest(list(terms), [Near(words[number], cosine) for number, cosine in pairs], len(words) - len(set(given)))


def word_vectors(writer: Writer) -> tuple[list[str], Tensor]:
    """(N words of a run's vocabulary, the vectors (N, D) that it embeds them by, of length 1).

    What has no letter or digit, such as blanks, is left out. Of a run on pairs they are those of its sources.
    """
    tokenizer, weights = writer.source_tokenizer, embedding(writer.model)
    if not isinstance(tokenizer, WordTokenizer):
        raise SettingsError(
            f"the tokens of this run are no words ({tokenizer.kind}); train one whose are: "
            "charlm train FILE --arch word2vec, or any --arch with --tokenizer word"
        )
    texts = [tokenizer.decode([id]) for id in range(tokenizer.vocab_size)]
    ids = [id for id, text in enumerate(texts) if any(c.isalnum() for c in text)]
    return [texts[id] for id in ids], F.normalize(weights[ids].float(), dim=1)


def embedding(network: nn.Module) -> Tensor:
    """(V, E) the vectors that a network begins with, a token's in each row."""
    first: Any = network.stages()[0]  # type: ignore[operator]
    table = next(module for module in first.modules() if isinstance(module, nn.Embedding))
    return table.weight.detach()


def unknown_message(word: str, words: Sequence[str]) -> str:
    """That a word is unknown, and which ones are spelled like it."""
    same = [known for known in words if known.lower() == word.lower()]
    close = [*same, *(known for known in difflib.get_close_matches(word, words, SUGGESTED) if known not in same)]
    hint = f"near it in spelling: {', '.join(close[:SUGGESTED])}" if close else f"it has {len(words):,} words"
    return f"the vocabulary of this run has no word {word!r}; {hint}"
