"""From text to token ids and back without loss: decode(encode(text)) == text for any text that can be encoded.

Every tokenizer has a table from id to bytes. Decoding joins the bytes and reads them as UTF-8, in which a lone
surrogate, which a Python string may contain, is encoded like any other code point ("surrogatepass").
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm.errors import VocabularyError
from charlm.text.units import Ids, code_points, is_odd, phrases, words
from charlm.text.visible import with_base

CODE_POINTS = 0x110000
BYTES = [bytes([value]) for value in range(256)]  # as the first tokens: the id of ASCII is its code point

LOOKALIKES = dict(zip("‘’‚‛′‹›“”„‟″«»‐‑‒–−", "'''''''" + '"' * 7 + "-----", strict=True)) | {"—": "--", "―": "--"}


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def text_of(codes: NDArray[Any]) -> str:
    """The text of these code points (characters,)."""
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def listed(characters: set[str]) -> str:
    """The characters as a message shows them, ten at most."""
    names = [f"{with_base(c)!r} (U+{ord(c):04X})" for c in sorted(characters)]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _read_surrogate(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler "charlm": an encoded surrogate is decoded, any other undecodable byte becomes U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    try:
        return error.object[error.start : error.start + 3].decode("utf-8", "surrogatepass"), error.start + 3
    except UnicodeDecodeError:
        return "\ufffd", error.end


codecs.register_error("charlm", _read_surrogate)


def start_of(tokens: Sequence[bytes]) -> int:
    """The id that stands before a text, as BOS does: that of a newline, or else of a space, or else 0."""
    return next((tokens.index(blank) for blank in (b"\n", b" ") if blank in tokens), 0)


class Decoder:
    """Decodes ids one by one, for streaming: a character is given out once its last byte is known."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("charlm")

    def feed(self, *ids: int, final: bool = False) -> str:
        """The characters that these ids complete; with `final` also what remains incomplete, as U+FFFD."""
        return self._utf8.decode(b"".join([self._tokens[i] for i in ids]), final)

    def peek(self, id: int) -> str:
        """What `feed(id)` would give; the decoder stays as it is."""
        state = self._utf8.getstate()
        text = self.feed(id)
        self._utf8.setstate(state)
        return text


class Tokenizer(ABC):
    """A table from id to bytes (`tokens`), and a way to cut text into its entries."""

    kind: ClassVar[str]  # as in --tokenizer

    def __init__(self, tokens: list[bytes]) -> None:
        self.tokens = tokens

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @cached_property
    def start(self) -> int:
        """The id that stands before a text (`start_of`)."""
        return start_of(self.tokens)

    @cached_property
    def newline(self) -> int:
        """The id of a newline: EOS, and BOS, of a line. Raises `VocabularyError` if the vocabulary has none."""
        return int(self.encode("\n")[0])

    @cached_property
    def joins_blanks(self) -> bool:
        """Whether some tokens are a blank and the word behind it; so a word that is missing has the blank before it."""
        return any(t[:1] == b" " and t[1:].decode("utf-8", "ignore")[:1].isalpha() for t in self.tokens)

    @cached_property
    def sha256(self) -> str:
        """Equal for tokenizers with the same vocabulary."""
        return digest(self.to_json())

    def encode(self, text: str, unknown: str = "error") -> Ids:  # noqa: ARG002  only CharTokenizer has unknown characters
        """Ids (tokens,) of `text`. Characters that the vocabulary lacks raise `VocabularyError` (`unknown` is `error`),
        are left out (`skip`), or are replaced by what looks most like them (`nearest`)."""
        return self._encode(text)

    def encode_lines(self, text: str) -> Ids:
        """As `encode`, for lines of which none is blank: every newline is a token of its own, `newline`, and a line's
        ids do not depend on the lines around it."""
        return self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return b"".join([self.tokens[i] for i in ids]).decode("utf-8", "charlm")

    def decoder(self) -> Decoder:
        """A new decoder for a stream of ids."""
        return Decoder(self.tokens)

    def to_json(self) -> dict[str, Any]:
        """The whole vocabulary as JSON values. `from_json` is the way back."""
        return {"kind": self.kind, **self._fields()}

    @abstractmethod
    def _encode(self, text: str) -> Ids: ...

    @abstractmethod
    def _fields(self) -> dict[str, Any]:
        """The arguments of the constructor."""


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8."""

    kind = "byte"

    def __init__(self) -> None:
        super().__init__(BYTES)

    def _encode(self, text: str) -> Ids:
        return np.frombuffer(utf8(text), np.uint8).astype(np.int64)

    def _fields(self) -> dict[str, Any]:
        return {}


class CharTokenizer(Tokenizer):
    """One token per code point of an alphabet. With `spell` the first 256 ids are bytes, for every other character."""

    kind = "char"

    def __init__(self, characters: list[int], spell: bool) -> None:
        tokens = [utf8(chr(code)) for code in characters]
        super().__init__(BYTES + tokens if spell else tokens)
        self._characters, self._spell = characters, spell
        self._ids = np.full(CODE_POINTS, -1, np.int64)  # (code points) -> id, -1 where unknown
        if spell:
            self._ids[:128] = np.arange(128)
        self._ids[characters] = np.arange(self.vocab_size - len(characters), self.vocab_size)

    def encode(self, text: str, unknown: str = "error") -> Ids:
        ids = super().encode(text)
        if ids.min(initial=0) >= 0:
            return ids
        if unknown == "skip":
            return ids[ids >= 0]
        lacking = set(text_of(code_points(text)[ids < 0]))
        if unknown == "nearest":
            return self._encode(text.translate({ord(c): self.nearest(c) for c in lacking}))
        raise VocabularyError(
            f"the vocabulary lacks {listed(lacking)}; a run trained with --tokenizer byte, word, bpe, bytebpe or "
            "unigram can spell any character"
        )

    def nearest(self, character: str) -> str:
        """What looks most like `character` in the alphabet: it without accents, or in the other case, or else ""."""
        bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        candidates = (LOOKALIKES.get(character, bare), character.swapcase(), bare.swapcase())
        return next((text for text in candidates if self._encode(text).min(initial=0) >= 0), "")

    def _encode(self, text: str) -> Ids:
        """As in the base class, but -1 where a character is unknown."""
        codes = code_points(text)
        ids = self._ids[codes]
        if self._spell and ids.min(initial=0) < 0:
            unknown = codes[ids < 0]
            lengths = np.ones(len(ids), np.int64)
            lengths[ids < 0] += (unknown >= 0x80).astype(np.int64) + (unknown >= 0x800) + (unknown >= 0x10000)
            ids = np.repeat(ids, lengths)  # a -1 for every byte of an unknown character
            ids[ids < 0] = np.frombuffer(utf8(text_of(unknown)), np.uint8)
        return ids

    def _fields(self) -> dict[str, Any]:
        # Code points, not a string: JSON would read two neighbouring surrogates as one character.
        return {"characters": self._characters, "spell": self._spell}


class WordTokenizer(Tokenizer):
    """Words, runs of one blank, single characters. Unknown words become characters, unknown characters bytes."""

    kind = "word"

    def __init__(self, characters: list[int], words: list[str]) -> None:
        own = [*map(chr, characters), *words]
        super().__init__(BYTES + [utf8(token) for token in own])
        self._characters, self._words = characters, words
        self._ids = {chr(code): code for code in range(128)} | {token: id for id, token in enumerate(own, start=256)}

    def _encode(self, text: str) -> Ids:
        cut = words(text)
        ids = zip(cut.distinct, map(self._ids.get, cut.distinct), strict=True)
        return cut.spread([self._spell(word) if id is None else (id,) for word, id in ids])

    def _spell(self, word: str) -> list[int]:
        ids: list[int] = []
        for character in word:
            known = self._ids.get(character)
            ids += utf8(character) if known is None else (known,)
        return ids

    def _fields(self) -> dict[str, Any]:
        return {"characters": self._characters, "words": self._words}


class PieceTokenizer(Tokenizer):
    """Subwords of SentencePiece. What SentencePiece would not give back unchanged becomes bytes."""

    def __init__(self, model: str) -> None:
        from sentencepiece import SentencePieceProcessor

        self._model = model  # base64
        pieces = SentencePieceProcessor(model_proto=base64.b64decode(model))
        # SentencePiece's id 0 is <unk>, which never occurs with byte fallback. Our ids leave it out.
        super().__init__([_bytes_of_piece(pieces.id_to_piece(id), pieces.is_byte(id)) for id in range(1, len(pieces))])
        self._pieces, self._byte = pieces, pieces.piece_to_id("<0x00>")

    def _encode(self, text: str) -> Ids:
        cut = phrases(text)
        plain = [unit for unit in cut.distinct if not is_odd(unit)]
        ids: dict[str, list[int]] = dict(zip(plain, self._pieces.encode(plain, num_threads=1), strict=True))
        ids |= {unit: [self._byte + value for value in utf8(unit)] for unit in cut.distinct if is_odd(unit)}
        return cut.spread([ids[unit] for unit in cut.distinct]) - 1

    def _fields(self) -> dict[str, Any]:
        return {"model": self._model}


def _bytes_of_piece(piece: str, is_byte: bool) -> bytes:
    """The bytes of an entry of SentencePiece: `<0x41>` is one byte, `▁the` a space and three letters."""
    return bytes([int(piece[3:5], 16)]) if is_byte else utf8(piece.replace("▁", " "))


class BpeTokenizer(PieceTokenizer):
    kind = "bpe"


class UnigramTokenizer(PieceTokenizer):
    kind = "unigram"


def digest(value: dict[str, Any]) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
