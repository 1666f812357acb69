"""Vocabularies: how tokenizers learn theirs from a text, and the one or two that a run has.

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
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.config import PAD, DataSettings, DataSpec, Lengths
from charlm.errors import CorpusError, RunError, VocabularyError
from charlm.progress import Progress
from charlm.text import byte_bpe, units
from charlm.text.byte_bpe import ByteBPE
from charlm.text.threads import in_threads
from charlm.text.tokenizers import (
    BYTES,
    CODE_POINTS,
    BpeTokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    UnigramTokenizer,
    WordTokenizer,
    digest,
    listed,
    text_of,
)

Chunks = Callable[[], Iterator[str]]  # every call gives the training text in pieces, from its beginning

KINDS: dict[str, type[Tokenizer]] = {
    cls.kind: cls for cls in (ByteTokenizer, CharTokenizer, WordTokenizer, BpeTokenizer, ByteBPE, UnigramTokenizer)
}
DAMAGED = (TypeError, KeyError, ValueError, IndexError, AttributeError, OverflowError, RuntimeError)
LARGEST_ALPHABET = 200_000  # characters: more than Unicode has so far
SAMPLE = 10_000_000  # characters that bpe, bytebpe and unigram are trained on
COUNTED_WORDS = 500_000  # different words whose counts are kept, or as many as the vocabulary has if that is more
COUNTED_TOKENS = 1 << 24  # of a text, at most


class Vocabularies(NamedTuple):
    """The tokenizers of what a run reads and writes: one and the same for running text and a shared vocabulary.

    Of labelled texts also the names of the classes.
    """

    source: Tokenizer
    target: Tokenizer
    classes: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        return self.source is self.target

    @property
    def sha256(self) -> str:
        return digest(self.to_json())

    def spec(self, lengths: Lengths, counts: NDArray[np.int64] | None = None) -> DataSpec:
        """The `DataSpec` for a model; `counts` (V,) say how often every token occurs in the targets."""
        size, tokens = self.target.vocab_size, self.target.tokens
        if self.shared:
            return DataSpec(size, lengths, counts=counts, classes=len(self.classes), tokens=tokens)
        ids = {token: id for id, token in enumerate(tokens)}
        twins = np.array([ids.get(token, PAD) for token in self.source.tokens])
        return DataSpec(size, lengths, self.source.vocab_size, counts, twins, tokens=tokens)

    def to_json(self) -> dict[str, Any]:
        if self.classes:
            return {"kind": "labels", "classes": list(self.classes), "texts": self.target.to_json()}
        if self.shared:
            return self.target.to_json()
        return {"kind": "pair", "source": self.source.to_json(), "target": self.target.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Vocabularies:
        """The inverse of `to_json`. Raises `RunError` for a description that is damaged."""
        if value.get("kind") == "pair":
            sides = [value.get(side) for side in ("source", "target")]
            source, target = (from_json(side if isinstance(side, dict) else {}) for side in sides)
            return cls(source, target)
        classes: Any = ()
        if value.get("kind") == "labels":
            classes, value = value.get("classes"), value.get("texts")  # type: ignore[assignment]
            if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
                raise RunError("the names of the classes are damaged")
        tokenizer = from_json(value if isinstance(value, dict) else {})
        return cls(tokenizer, tokenizer, tuple(classes))

    @property
    def sides(self) -> tuple[Tokenizer, Tokenizer]:
        return self.source, self.target


def from_json(value: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_json` described. Raises `RunError` if its kind is unknown or the description damaged."""
    try:
        kind, fields = value["kind"], {name: field for name, field in value.items() if name != "kind"}
        if kind not in KINDS:
            raise RunError(f"the tokenizer is of kind {kind!r}; this charlm knows {', '.join(KINDS)}")
        return KINDS[kind](**fields)
    except (*DAMAGED, VocabularyError) as error:
        raise RunError(f"the description of the tokenizer is damaged: {error!r}") from error


def token_counts(ids: NDArray[np.unsignedinteger[Any]], vocab_size: int) -> NDArray[np.int64]:
    """(V,) how often every token occurs in ids (tokens,); of a long text every nth token is counted."""
    return np.bincount(ids[:: 1 + len(ids) // COUNTED_TOKENS], minlength=vocab_size)


def train_tokenizer(settings: DataSettings, chunks: Chunks) -> Generator[Progress, None, Tokenizer]:
    """Learn a vocabulary from the text that `chunks` gives; the progress has no unit.

    Raises `CorpusError` for a text that the tokenizer cannot learn from, `VocabularyError` for characters that
    `--alphabet printable` cannot show.
    """
    yield Progress("learning the vocabulary", 0, settings.vocab_size)
    if settings.tokenizer == "byte":
        return ByteTokenizer()
    if settings.tokenizer == "char":
        return _train_char(settings, chunks)
    if settings.tokenizer == "word":
        return _train_word(settings.vocab_size, chunks)
    if settings.tokenizer == "bytebpe":
        counts = _count_units(units.pieces, _first(SAMPLE, chunks()), COUNTED_WORDS)
        return (yield from byte_bpe.learn(counts, settings.vocab_size))
    return _train_pieces(settings.tokenizer, settings.vocab_size, chunks)


def refuse_lost(tokenizer: Tokenizer, chunks: Iterable[str]) -> None:
    """Raise `VocabularyError` for characters of which `--alphabet printable` would leave nothing.

    Marks and formatting may be lost.
    """
    alphabet = text_of(np.flatnonzero(_count(chunks)))
    visible = (c for c in alphabet if unicodedata.category(c) not in ("Mn", "Cf"))
    lost = {c for c in visible if not tokenizer.encode(c, "nearest").size}
    if lost:
        raise VocabularyError(
            f"nothing printable in ASCII looks like {listed(lost)}; use --alphabet corpus, or start from a run that did"
        )


def _train_char(settings: DataSettings, chunks: Chunks) -> CharTokenizer:
    if settings.alphabet == "printable":
        tokenizer = CharTokenizer([ord(c) for c in string.printable], spell=False)
        refuse_lost(tokenizer, chunks())
        return tokenizer
    counts = _count(chunks())
    spell = bool(((counts > 0) & (counts < settings.min_count)).any())
    if spell:
        counts[:128] = 0  # these are bytes already
    codes = np.flatnonzero(counts >= settings.min_count)
    if len(codes) > LARGEST_ALPHABET:
        raise CorpusError(
            f"the text has {len(codes):,} different characters, and char knows {LARGEST_ALPHABET:,} at most; spell "
            "the rarer ones in bytes with --min-count 10, or use --tokenizer byte, bpe, bytebpe or unigram"
        )
    return CharTokenizer(codes.tolist(), spell)


def _train_word(vocab_size: int, chunks: Chunks) -> WordTokenizer:
    """256 bytes, then the commonest characters in up to half of the remaining ids, then the commonest words."""
    room = vocab_size - len(BYTES)
    counts = _count(chunks())
    counts[:128] = 0
    characters = _most_frequent(counts, room // 2)
    words = _count_units(units.words, chunks(), max(COUNTED_WORDS, vocab_size))
    ranked = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    return WordTokenizer(characters, ranked[: room - len(characters)])


def _count_units(cut: Callable[[str], units.Units], chunks: Iterable[str], kept: int) -> Counter[str]:
    """How often every unit occurs; of a text with very many different ones about the `kept` most frequent."""

    def count(text: str) -> dict[str, int]:
        found = cut(text)
        return dict(zip(found.distinct, np.bincount(found.inverse).tolist(), strict=True))

    counts: Counter[str] = Counter()
    for counted in in_threads(count, chunks):
        counts.update(counted)
        if len(counts) > 2 * kept:  # to bound the memory: the rarest of so many will not be chosen
            counts = Counter(dict(counts.most_common(kept)))
    return counts


def _train_pieces(kind: str, vocab_size: int, chunks: Chunks) -> Tokenizer:
    """Train SentencePiece on the first `SAMPLE` characters. Up to half of the ids after the bytes are characters."""
    from sentencepiece import SentencePieceTrainer

    sample = "".join(_first(SAMPLE, chunks()))
    counts = _count([sample])
    counts[[*map(ord, "\0\t\n▁▅")]] = 0  # these have a special meaning in SentencePiece
    counts[0xD800:0xE000] = 0  # surrogates, which it does not accept
    alphabet = "".join(map(chr, _most_frequent(counts, (vocab_size - len(BYTES)) // 2)))
    if not alphabet:
        raise CorpusError(f"the text holds nothing that {kind} could learn from; use --tokenizer byte")
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(match.group() for match in re.finditer(f"[{re.escape(alphabet)}]{{1,1000}}", sample)),
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size + 1,  # with <unk>, which our ids leave out
        hard_vocab_limit=False,  # a small text has fewer pieces
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        byte_fallback=True,
        character_coverage=1.0,
        user_defined_symbols=["\n"],
        bos_id=-1,
        eos_id=-1,
        num_threads=1,  # sums of floats depend on their order, and so the vocabulary on the threads
        minloglevel=4,
    )
    return KINDS[kind](base64.b64encode(model.getvalue()).decode())  # type: ignore[arg-type]


def _first(size: int, chunks: Iterator[str]) -> Iterator[str]:
    """The first `size` characters."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def _count(chunks: Iterable[str]) -> NDArray[np.int64]:  # (code points)
    """How often every code point occurs."""
    counts = np.zeros(CODE_POINTS, np.int64)
    for counted in in_threads(_code_counts, chunks):
        counts[: len(counted)] += counted
    return counts


def _code_counts(text: str) -> NDArray[np.int64]:
    return np.bincount(units.code_points(text))


def _most_frequent(counts: NDArray[np.int64], limit: int) -> list[int]:
    """The `limit` code points that occur most often; of equally frequent ones the lower come first."""
    codes = np.flatnonzero(counts)
    ranked: list[int] = codes[np.argsort(-counts[codes], kind="stable")][:limit].tolist()
    return ranked
