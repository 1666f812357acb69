"""Token ids on disk, made once for a corpus and its settings, and memory-mapped from then on.

The text is cut by characters into train | validation | test, and each part is encoded by itself, so that no token spans
a border. Vocabularies are learnt from the training part alone, with one exception: the alphabet of `char` is that of
the whole text, so that the validation text can be encoded.

The cache holds two files per text and settings: `KEY.ids`, the ids of the three parts one after the other, and
`KEY.json`, which describes them. Each is written under a temporary name, flushed to the disk and renamed, the
description last: ids without it are ignored.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from operator import add
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.config import DataSettings, DataSpec, Lengths, TrainSettings
from charlm.errors import CorpusError, RunError
from charlm.files import writing
from charlm.progress import Progress
from charlm.text.characters import WHITE_SPACE
from charlm.text.corpus import Corpus
from charlm.text.order import shuffle_advice
from charlm.text.threads import in_threads
from charlm.text.tokenizers import Tokenizer, utf8
from charlm.text.vocabulary import Vocabularies, refuse_lost, token_counts, train_tokenizer
from charlm.text.windows import Windows

FORMAT = 2  # to be raised whenever the same settings would give other ids or sizes
STALE = 3600.0  # seconds after the last write to a temporary file until it is deleted
BEFORE = 8192  # tokens before a held-out part that a model can be given as its context
LONGEST = 1 << 20  # characters without a blank that are in memory at once; then the text is cut inside a word


class Size(NamedTuple):
    """Size of one part of the text."""

    tokens: int
    chars: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the text as ids; its `len` is its number of tokens.

    With `--alphabet printable` characters and bytes are those after the replacement, and not those of the file.
    """

    ids: NDArray[np.unsignedinteger[Any]]  # (tokens,) read-only, of the smallest type that holds the vocabulary
    before: NDArray[np.integer[Any]]  # (one or more,) the tokens before it, or the id that a text starts from
    chars: int
    bytes: int  # of the text as UTF-8

    def __len__(self) -> int:
        return len(self.ids)

    def beginning(self, size: int, vocabularies: Vocabularies) -> Split:
        """Its first tokens, as many as `size` bytes hold, but one at least."""
        tokenizer = vocabularies.target
        ids = self.ids[:size]
        ends = np.cumsum(np.array([len(token) for token in tokenizer.tokens])[ids])
        ids = ids[: max(1, int(np.searchsorted(ends, size, "right")))]
        return replace(self, ids=ids, chars=len(tokenizer.decode(ids.tolist())), bytes=int(ends[len(ids) - 1]))


@dataclass(frozen=True, eq=False)
class Store:
    """A text as ids, split into training, validation and test."""

    vocabularies: Vocabularies
    train: Split
    validation: Split
    test: Split
    corpus_sha256: str
    notes: list[str] = field(default_factory=list)  # what the user should know of how the text was read

    @property
    def tokenizer(self) -> Tokenizer:
        return self.vocabularies.target

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(V,) how often each token occurs in the training part."""
        return token_counts(self.train.ids, self.tokenizer.vocab_size)

    def spec(self, train: TrainSettings) -> DataSpec:
        return self.vocabularies.spec(Lengths.of_text(self.batches(train).seq_len), self.counts)

    def batches(self, train: TrainSettings) -> Windows:
        return Windows(
            self.train.ids, batch_size=train.batch_size, seq_len=train.seq_len, order=train.order, seed=train.seed
        )


def prepare(
    corpus: Corpus, settings: DataSettings, cache_dir: Path | None, vocabularies: Vocabularies | None = None
) -> Generator[Progress, None, Store]:
    """The ids of `corpus`, from the cache in `cache_dir` or newly made: `store = yield from prepare(...)`.

    The vocabulary is learnt from the text, unless `vocabularies` are given. A cache folder that cannot be written is
    replaced by a temporary one. Raises `CorpusError` if the text is empty, `VocabularyError` if the given vocabulary
    cannot spell it.
    """
    yield from corpus.survey()
    notes = corpus.notes
    if not corpus.chars:
        raise CorpusError(f"{', '.join(map(str, corpus.paths))} holds no text")
    folder = cache_dir or default_cache_dir()
    key = _key(corpus, settings)
    store = _load(folder, key)
    if vocabularies and (store is None or store.vocabularies.sha256 != vocabularies.sha256):
        key = _key(corpus, settings, vocabularies)
        store = _load(folder, key)
    if store is None:
        folder = _writable(folder)
        yield from _build(corpus, settings, folder, key, vocabularies)
        store = _load(folder, key)
        assert store is not None
    advice = [shuffle_advice(corpus.paths)] if corpus.sorted and settings.holds_out else []
    return replace(store, notes=[*notes, *advice])


def default_cache_dir() -> Path:
    """The folder `charlm` in the user's cache folder, as the system has it."""
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        base = Path(xdg)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    else:
        base = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    return base.expanduser() / "charlm"


def _key(corpus: Corpus, settings: DataSettings, vocabularies: Vocabularies | None = None) -> str:
    """The name of the cache files: equal for equal text, settings and given vocabularies."""
    values = settings.to_dict()
    del values["encoding"]  # corpus.sha256 is that of the decoded text
    given = [vocabularies.sha256] if vocabularies else []
    return hashlib.sha256(json.dumps([FORMAT, corpus.sha256, values, *given]).encode()).hexdigest()[:32]


def _load(folder: Path, key: str) -> Store | None:
    """What the cache holds under `key`; None if it is missing or incomplete."""
    path = folder / f"{key}.ids"
    try:
        description = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        sizes = [Size(**size) for size in description["splits"]]
        dtype = np.dtype(description["dtype"])
        tokens = sum(size.tokens for size in sizes)
        if path.stat().st_size != tokens * dtype.itemsize:
            return None
        ids = np.memmap(path, dtype, "r") if tokens else np.zeros(0, dtype)  # an empty file cannot be mapped
        ends = [0, *accumulate(size.tokens for size in sizes)]
        vocabularies = Vocabularies.from_json(description["tokenizer"])
        start, splits = np.array([vocabularies.target.start]), list[Split]()
        for size, (first, end) in zip(sizes, pairwise(ends), strict=True):
            before = splits[-1].ids[-BEFORE:] if splits and len(splits[-1]) else start
            splits.append(Split(ids[first:end], before, size.chars, size.bytes))
        train, validation, test = splits
        return Store(vocabularies, train, validation, test, description["corpus_sha256"])
    except (OSError, ValueError, KeyError, TypeError, RunError):
        return None


def _build(
    corpus: Corpus, settings: DataSettings, folder: Path, key: str, vocabularies: Vocabularies | None
) -> Generator[Progress, None, None]:
    """Learn the vocabulary if none is given, encode the text and save both in `folder` under `key`."""
    validation, test = (round(corpus.chars * share) for share in (settings.val_frac, settings.test_frac))
    borders = (0, corpus.chars - validation - test, corpus.chars - test, corpus.chars)
    whole = settings.tokenizer == "char"
    unknown = "nearest" if whole and settings.alphabet == "printable" else "error"
    if vocabularies:
        tokenizer = vocabularies.target
        if unknown == "nearest":
            yield Progress("checking the characters", 0, corpus.bytes)
            refuse_lost(tokenizer, corpus.chunks())  # as learning does: every character has a likeness
    else:
        chunks = corpus.chunks if whole else lambda: _part(corpus, 0, borders[1])
        tokenizer = yield from train_tokenizer(settings, chunks)
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)

    def encode(piece: str) -> tuple[bytes, Size, int]:
        """(its ids, their size, its bytes in the corpus)."""
        ids = tokenizer.encode(piece, unknown).astype(dtype)
        raw = len(utf8(piece))
        if unknown == "error":
            return ids.tobytes(), Size(len(ids), len(piece), raw), raw
        replaced = tokenizer.decode(ids)  # the text that is scored: bits per byte are those of its bytes
        return ids.tobytes(), Size(len(ids), len(replaced), len(utf8(replaced))), raw

    sizes, done = [], 0
    with _writing(folder / f"{key}.ids") as file:
        for start, stop in pairwise(borders):
            part = Size(0, 0, 0)
            for ids, piece, raw in in_threads(encode, _part(corpus, start, stop)):
                file.write(ids)
                part = Size(*map(add, part, piece))
                done += raw
                yield Progress("encoding", done, corpus.bytes)
            sizes.append(part)
        if done != corpus.bytes:
            raise CorpusError(f"{', '.join(map(str, corpus.paths))} changed while it was read; start again")
    description = {
        "corpus_sha256": corpus.sha256,
        "dtype": dtype.name,
        "splits": [size._asdict() for size in sizes],
        "tokenizer": tokenizer.to_json(),
    }
    with _writing(folder / f"{key}.json") as file:
        file.write(json.dumps(description).encode())


def _part(corpus: Corpus, start: int, stop: int) -> Iterator[str]:
    """The characters `start` to `stop` in pieces that begin with a space or newline after a character that is no blank:
    there no tokenizer has a token that spans two pieces."""
    buffer = ""
    for piece in _span(corpus, start, stop):
        buffer += piece
        cut = max(buffer.rfind(" "), buffer.rfind("\n"))
        while cut > 0 and (buffer[cut] not in " \n" or buffer[cut - 1] in WHITE_SPACE):  # blanks in a row may be one
            cut -= 1
        if cut <= 0 and len(buffer) > LONGEST:
            cut = len(buffer)
        if cut > 0:
            yield buffer[:cut]
            buffer = buffer[cut:]
    if buffer:
        yield buffer


def _span(corpus: Corpus, start: int, stop: int) -> Iterator[str]:
    """The characters `start` to `stop` in pieces."""
    position = 0  # of the chunk in the text
    for chunk in corpus.chunks():
        if piece := chunk[max(0, start - position) : stop - position]:
            yield piece
        position += len(chunk)
        if position >= stop:
            return


def _writable(folder: Path) -> Path:
    """`folder`, made if missing and cleared of stale temporary files, or a temporary folder if it is read-only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="charlm-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for temporary in folder.glob("." + "[0-9a-f]" * 32 + ".*.tmp"):  # left by a process that was killed
        with suppress(OSError):  # another process may be deleting it too
            if time.time() - temporary.stat().st_mtime > STALE:
                temporary.unlink()
    return folder


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """A cache file, written whole or not at all. Only the disk can fail: reading a corpus raises errors of its own."""
    with writing(path, error=CorpusError, hint="make room or give another --cache-dir") as file:
        os.chmod(file.name, 0o600)  # the text may be private
        yield file
