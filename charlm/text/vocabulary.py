"""Vocabularies: what a tokenizer learns from a text before it can cut one, and the one or two that a run has.

Subwords: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016, arXiv:1508.07909), and
Kudo, "Subword Regularization" (2018, arXiv:1804.10959), both as implemented by SentencePiece (arXiv:1808.06226).
"""

from __future__ import annotations

import base64
import io
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.config import DataSettings, DataSpec, Lengths
from charlm.errors import CorpusError, VocabularyError
from charlm.text import units
from charlm.text.threads import in_threads
from charlm.text.tokenizers import (
    BYTES,
    CODE_POINTS,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    digest,
    from_json,
    listed,
    text_of,
)

Chunks = Callable[[], Iterator[str]]  # the training text in pieces, as often as it is called

LARGEST_ALPHABET = 200_000  # characters: more than Unicode has so far
SAMPLE = 10_000_000  # characters that bpe and unigram are trained on
MANY_WORDS = 500_000  # different ones that are counted at least
COUNTED = 1 << 24  # tokens of a text that are counted at most


class Vocabularies(NamedTuple):
    """What a run reads and what it writes; of running text, and of pairs that share it, one and the same."""

    source: Tokenizer
    target: Tokenizer

    @property
    def shared(self) -> bool:
        return self.source is self.target

    @property
    def sha256(self) -> str:
        return digest(self.to_json())

    def spec(self, lengths: Lengths, counts: NDArray[np.int64] | None = None) -> DataSpec:
        """What a model must know of its data; `counts` (V,) are those of the tokens that it is to write."""
        return DataSpec(self.target.vocab_size, lengths, None if self.shared else self.source.vocab_size, counts)

    def to_json(self) -> dict[str, Any]:
        if self.shared:
            return self.target.to_json()
        return {"kind": "pair", "source": self.source.to_json(), "target": self.target.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Vocabularies:
        """Raises `RunError` as the function of this name."""
        if value.get("kind") == "pair":
            sides = [value.get(side) for side in cls._fields]
            return cls(*(from_json(side if isinstance(side, dict) else {}) for side in sides))
        tokenizer = from_json(value)
        return cls(tokenizer, tokenizer)


def token_counts(ids: NDArray[np.unsignedinteger[Any]], vocab_size: int) -> NDArray[np.int64]:
    """(V,) how often each token stands in ids (tokens,), of a long text in an even sample."""
    return np.bincount(ids[:: 1 + len(ids) // COUNTED], minlength=vocab_size)


def train_tokenizer(settings: DataSettings, chunks: Chunks) -> Tokenizer:
    """Learn a vocabulary from the text that `chunks` gives.

    Raises `CorpusError` if there is nothing to learn from, `VocabularyError` if `--alphabet printable` cannot show it.
    """
    if settings.tokenizer == "byte":
        return ByteTokenizer()
    if settings.tokenizer == "char":
        return _train_char(settings, chunks)
    if settings.tokenizer == "word":
        return _train_word(settings.vocab_size, chunks)
    return _train_pieces(settings.tokenizer, settings.vocab_size, chunks)


def _train_char(settings: DataSettings, chunks: Chunks) -> CharTokenizer:
    counts = _count(chunks())
    if settings.alphabet == "printable":
        tokenizer = CharTokenizer([ord(c) for c in string.printable], spell=False)
        seen = text_of(np.flatnonzero(counts))
        visible = (c for c in seen if unicodedata.category(c) not in ("Mn", "Cf"))  # marks and formatting may go
        lost = {c for c in visible if not tokenizer.encode(c, "nearest").size}
        if lost:
            raise VocabularyError(f"nothing printable in ASCII looks like {listed(lost)}; use --alphabet corpus")
        return tokenizer
    spell = bool(((counts > 0) & (counts < settings.min_count)).any())
    if spell:
        counts[:128] = 0  # these are bytes already
    alphabet = np.flatnonzero(counts >= settings.min_count)
    if len(alphabet) > LARGEST_ALPHABET:
        raise CorpusError(
            f"the text has {len(alphabet):,} different characters, and char knows {LARGEST_ALPHABET:,} at most; spell "
            "the rarer ones in bytes with --min-count 10, or use --tokenizer byte, bpe or unigram"
        )
    return CharTokenizer(alphabet.tolist(), spell)


def _train_word(vocab_size: int, chunks: Chunks) -> WordTokenizer:
    """Half of what the bytes leave is for characters, the rest for words; both are the most frequent ones."""
    room = vocab_size - len(BYTES)
    counts = _count(chunks())
    counts[:128] = 0
    characters = _most_frequent(counts, room // 2)
    words: Counter[str] = Counter()
    many = max(MANY_WORDS, vocab_size)
    for counted in in_threads(_count_words, chunks()):
        words.update(counted)
        if len(words) > 2 * many:  # to bound the memory: the rare ones of so many are not wanted
            words = Counter(dict(words.most_common(many)))
    ranked = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    return WordTokenizer(characters, ranked[: room - len(characters)])


def _count_words(text: str) -> dict[str, int]:
    found = units.words(text)
    return dict(zip(found.distinct, np.bincount(found.which).tolist(), strict=True))


def _train_pieces(kind: str, vocab_size: int, chunks: Chunks) -> Tokenizer:
    """SentencePiece on the first `SAMPLE` characters. Up to half of what the bytes leave is for single characters."""
    from sentencepiece import SentencePieceTrainer

    sample = _first(SAMPLE, chunks())
    counts = _count([sample])
    counts[[*map(ord, "\0\t\n▁▅")]] = 0  # these have a meaning of their own in SentencePiece
    counts[0xD800:0xE000] = 0  # and surrogates none
    alphabet = "".join(map(chr, _most_frequent(counts, (vocab_size - len(BYTES)) // 2)))
    if not alphabet:
        raise CorpusError(f"the text holds nothing that {kind} could learn from; use --tokenizer byte")
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(found.group() for found in re.finditer(f"[{re.escape(alphabet)}]{{1,1000}}", sample)),
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size + 1,  # <unk>, which we leave out
        hard_vocab_limit=False,  # a small text has fewer pieces
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        byte_fallback=True,
        character_coverage=1.0,
        user_defined_symbols=["\n"],
        bos_id=-1,
        eos_id=-1,
        num_threads=1,  # the sum of many floats depends on their order
        minloglevel=4,
    )
    return from_json({"kind": kind, "model": base64.b64encode(model.getvalue()).decode()})


def _first(size: int, chunks: Iterator[str]) -> str:
    """The first `size` characters."""
    parts: list[str] = []
    for chunk in chunks:
        parts.append(chunk[:size])
        size -= len(parts[-1])
        if not size:
            break
    return "".join(parts)


def _count(chunks: Iterable[str]) -> NDArray[np.int64]:  # (code points)
    """How often each code point occurs."""
    counts = np.zeros(CODE_POINTS, np.int64)
    for seen in in_threads(_code_counts, chunks):
        counts[: len(seen)] += seen
    return counts


def _code_counts(text: str) -> NDArray[np.int64]:
    return np.bincount(units.code_points(text))


def _most_frequent(counts: NDArray[np.int64], limit: int) -> list[int]:
    """The code points that occur most often, of equals the lower ones."""
    seen = np.flatnonzero(counts)
    ranked: list[int] = seen[np.argsort(-counts[seen], kind="stable")][:limit].tolist()
    return ranked
