"""The text as the user has it: files, folders, patterns, gzip and standard input, read in bounded memory.

The text that comes out is decoded, has no byte order marks, and its lines end with a newline, whether on disk they end
with that, with a carriage return and a newline, or with a carriage return alone (`ends_lines_in_cr`).
"""

from __future__ import annotations

import codecs
import hashlib
import io
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from charlm.errors import CorpusError, SettingsError
from charlm.progress import Progress
from charlm.text.order import SortCheck
from charlm.text.paths import Copies, find, name_of
from charlm.text.records import texts
from charlm.text.signatures import STANDARD_INPUT, detect_encoding, open_bytes


class Corpus:
    """One text made of one or more files. It can be read any number of times."""

    targets: tuple[Path, ...] = ()  # the files of a second side, which a running text does not have

    def __init__(self, name: str, paths: Sequence[Path], encoding: str, copies: Copies, notes: Sequence[str]) -> None:
        self.name = name  # short, for naming runs
        self.paths = tuple(paths)
        self._notes, self._record_notes = notes, list[str]()  # on finding the files, and on the records in them
        self._encoding = encoding
        self._copies = copies
        self._on_disk = sum(copies.get(path, path).stat().st_size for path in paths)  # bytes
        self._facts: Facts | None = None

    @classmethod
    def open(cls, paths: Sequence[str | Path], encoding: str = "utf-8") -> Corpus:
        """The text of what `paths` name: files, folders, glob patterns, or `-` for standard input.

        Raises `CorpusError` if there is no such file, `SettingsError` if Python knows no such encoding.
        """
        _check_encoding(encoding)
        if not paths:
            raise CorpusError("no text was given; name a file, a folder, a pattern, or - for standard input")
        copies, notes = Copies(), list[str]()
        try:
            files = [file for path in paths for file in find(str(path), copies, notes)]
            return cls(name_of(str(paths[0]), files[0]), files, encoding, copies, notes)
        except OSError as error:
            raise CorpusError(f"cannot read {error.filename or 'the text'}: {error.strerror}") from error

    def chunks(self, size: int = 1 << 20) -> Iterator[str]:
        """The text in pieces of about `size` characters at most. A file that ends without a newline is given one.

        Raises `CorpusError` where a file cannot be read or decoded.
        """
        self._record_notes = []
        return join_files(texts(path, pieces, size, self._record_notes) for path, pieces in self.files(size))

    def raw(self, size: int = 1 << 20) -> Iterator[str]:
        """As `chunks`, but of JSON lines and CSV the files as they are, and not the texts in their records."""
        return join_files(pieces for _, pieces in self.files(size))

    def files(self, size: int = 1 << 20) -> Iterator[tuple[Path, Iterator[str]]]:
        """(path, its text in pieces) of every file."""
        return ((path, _read(path, self._copies.get(path, path), self._encoding, size)) for path in self.paths)

    def survey(self, *, raw: bool = False) -> Generator[Progress, None, None]:
        """Read the text once, so that its size, hash and order are known; a second call does nothing.

        `raw`: read as `raw` gives it, else as `chunks` does.
        """
        if self._facts is not None:
            return
        digest, order, chars, size = hashlib.sha256(), SortCheck(), 0, 0
        for text in self.raw() if raw else self.chunks():
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(encoded)
            order.add(text)
            chars += len(text)
            size += len(encoded)
            yield Progress("reading", min(size, self._on_disk), self._on_disk)  # a .gz holds more than its size
        self._facts = Facts(digest.hexdigest(), chars, size, order.sorted)

    @property
    def notes(self) -> list[str]:
        """What the user should know of how the text is read; complete once it was read."""
        return [*self._notes, *self._record_notes]

    @property
    def sha256(self) -> str:
        """SHA-256 of the decoded text, so that encoding and line ends do not matter."""
        return self._surveyed().sha256

    @property
    def chars(self) -> int:
        return self._surveyed().chars

    @property
    def bytes(self) -> int:
        """Size of the text as UTF-8."""
        return self._surveyed().bytes

    @property
    def sorted(self) -> bool:
        """Whether its lines stand in alphabetical order."""
        return self._surveyed().sorted

    def _surveyed(self) -> Facts:
        if self._facts is None:
            for _ in self.survey():
                pass
        assert self._facts is not None
        return self._facts


class Facts(NamedTuple):
    """What is known of a text once it has been read through."""

    sha256: str
    chars: int
    bytes: int
    sorted: bool


def join_files(files: Iterable[Iterator[str]]) -> Iterator[str]:
    """The pieces of all files, with a newline after a file that ends without one and is not the last."""
    last = "\n"
    for pieces in files:
        separator = "\n" if last != "\n" else ""
        for text in pieces:
            yield separator + text
            separator, last = "", text[-1]


def _check_encoding(encoding: str) -> None:
    try:
        codecs.getincrementaldecoder(encoding)
        b" ".decode(encoding, "ignore")  # refuses codecs that are not text, such as base64
    except (LookupError, ValueError) as error:
        raise SettingsError(
            f"--encoding {encoding!r} is not one that Python knows; try utf-8, utf-16, cp1252 or latin-1",
            field="encoding",
        ) from error


def _read(path: Path, file: Path, encoding: str, size: int) -> Iterator[str]:
    """The text of `file` in pieces, none of them empty. Errors call it `path`, of which it may be a temporary copy."""
    name = _display_name(path)
    try:
        old_mac = ends_lines_in_cr(file, name, encoding, size)
        with open_bytes(file, name) as stream:
            yield from decoded(stream, name, encoding, partial(stream.read, size), old_mac=old_mac)
    except (OSError, EOFError, zlib.error) as error:  # the last two: a truncated or damaged .gz
        raise CorpusError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error


def decoded(
    stream: BufferedReader, name: str, encoding: str, read: Callable[[], bytes], *, old_mac: bool = False
) -> Iterator[str]:
    """Decode `stream`: the text of each piece of bytes that `read` takes from it, without empty ones.

    Its byte order mark says how it is encoded, or else `encoding` does. With `old_mac` a lone carriage return ends a
    line. Raises `CorpusError`, which calls the text `name`, at a byte that cannot be decoded, after all text before it.
    """
    encoding = detect_encoding(stream.peek(), name, encoding)
    decoder = codecs.getincrementaldecoder(encoding)()
    # translating or not, it keeps a \r at the end of a piece until it has seen whether a \n follows
    newlines = io.IncrementalNewlineDecoder(None, translate=old_mac)
    offset, line, at_start = 0, 1, True
    while True:
        raw, problem = read(), None
        try:
            text = newlines.decode(decoder.decode(raw, not raw), not raw)
        except UnicodeDecodeError as error:
            held_back = len(error.object) - len(raw)  # bytes of a character that the piece before began
            good = decoder.decode(raw[: max(0, error.start - held_back)])
            text, problem = newlines.decode(good, final=True), error
        text = text.replace("\r\n", "\n")
        line += text.count("\n")
        if text and at_start:
            text, at_start = text.removeprefix("\ufeff"), False
        if text:
            yield text
        if problem:
            raise CorpusError(_undecodable(name, encoding, problem, line, offset - held_back)) from problem
        if not raw:
            return
        offset += len(raw)


def ends_lines_in_cr(file: Path, name: str, encoding: str, size: int) -> bool:
    """Whether carriage returns end the lines of a file, as on an old Mac: it has some, and no newline.

    In any other file one that no newline follows is a character like any. Reads as far as the first newline.
    """
    seen = False
    with open_bytes(file, name) as stream:
        decoder = codecs.getincrementaldecoder(detect_encoding(stream.peek(), name, encoding))("replace")
        while raw := stream.read(size):
            text = decoder.decode(raw)
            if "\n" in text:
                return False
            seen = seen or "\r" in text
    return seen


def _undecodable(name: str, encoding: str, error: UnicodeDecodeError, line: int, offset: int) -> str:
    """The message about a byte that the encoding does not allow; `error` counts from byte `offset` of the file."""
    place = f"line {line}, byte {offset + error.start} is 0x{error.object[error.start]:02x}"
    advice = "say how it is encoded, for example --encoding cp1252 or --encoding latin-1"
    return f"{name} is not {encoding.removesuffix('-sig')}: {place}; {advice}"


def _display_name(path: Path) -> str:
    return STANDARD_INPUT if str(path) == "-" else str(path)
