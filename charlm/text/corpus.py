"""The text as the user has it: files, folders, patterns, gzip and standard input, read in bounded memory.

Whatever it was on disk, the text that comes out is decoded, without byte order marks, and every line ends in a newline,
whether it ended in one, in a carriage return and a newline, or as on an old Mac (`ends_lines_in_cr`).
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
from charlm.text.order import Order
from charlm.text.paths import Copies, find, name_of
from charlm.text.records import texts
from charlm.text.signatures import STANDARD_INPUT, open_bytes, spelling


class Corpus:
    """One text made of one or more files. It can be read any number of times."""

    targets: tuple[Path, ...] = ()  # it has no second side

    def __init__(self, name: str, paths: Sequence[Path], encoding: str, copies: Copies, notes: Sequence[str]) -> None:
        self.name = name  # short, for naming runs
        self.paths = tuple(paths)
        self._notes, self._said = notes, list[str]()
        self._encoding = encoding
        self._copies = copies
        self._on_disk = sum(copies.get(path, path).stat().st_size for path in paths)  # bytes
        self._facts: Facts | None = None

    @classmethod
    def open(cls, paths: Sequence[str | Path], encoding: str = "utf-8") -> Corpus:
        """Find the files that `paths` mean: files, folders, glob patterns, or `-` for standard input.

        Raises `CorpusError` if there are none, `SettingsError` if Python knows no such encoding.
        """
        _check_encoding(encoding)
        if not paths:
            raise CorpusError("no text was given; name a file, a folder, a pattern, or - for standard input")
        copies, notes = Copies(), list[str]()
        try:
            found = [path for given in paths for path in find(str(given), copies, notes)]
            return cls(name_of(str(paths[0]), found[0]), found, encoding, copies, notes)
        except OSError as error:
            raise CorpusError(f"cannot read {error.filename or 'the text'}: {error.strerror}") from error

    def chunks(self, size: int = 1 << 20) -> Iterator[str]:
        """The text in pieces of at most about `size` characters. Files are joined by a newline where one is missing.

        Raises `CorpusError` where a file cannot be read or decoded.
        """
        self._said = []
        return joined(texts(path, pieces, size, self._said) for path, pieces in self.files(size))

    def raw(self, size: int = 1 << 20) -> Iterator[str]:
        """As `chunks`, but JSON and CSV as they stand, and not the texts in them."""
        return joined(pieces for _, pieces in self.files(size))

    def files(self, size: int = 1 << 20) -> Iterator[tuple[Path, Iterator[str]]]:
        """What `raw` joins."""
        return ((path, _read(path, self._copies.get(path, path), self._encoding, size)) for path in self.paths)

    def survey(self, *, raw: bool = False) -> Generator[Progress, None, None]:
        """Read the text through, unless that was done, so that its facts are known; `raw` as it stands."""
        if self._facts is not None:
            return
        digest, order, chars, size = hashlib.sha256(), Order(), 0, 0
        for text in self.raw() if raw else self.chunks():
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(encoded)
            order.see(text)
            chars += len(text)
            size += len(encoded)
            yield Progress("reading", min(size, self._on_disk), self._on_disk)  # a .gz holds more than its size
        self._facts = Facts(digest.hexdigest(), chars, size, order.sorted)

    @property
    def notes(self) -> list[str]:
        """What a person should know of what is read, as far as it was."""
        return [*self._notes, *self._said]

    @property
    def sha256(self) -> str:
        """Fingerprint of the text that `chunks` gives, however its files spell it."""
        return self._known().sha256

    @property
    def chars(self) -> int:
        return self._known().chars

    @property
    def bytes(self) -> int:
        """Size of the text as UTF-8."""
        return self._known().bytes

    @property
    def sorted(self) -> bool:
        """Whether its lines stand in alphabetical order."""
        return self._known().sorted

    def _known(self) -> Facts:
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


def joined(files: Iterable[Iterator[str]]) -> Iterator[str]:
    """Their pieces, with a newline between files where one is missing."""
    last = "\n"
    for pieces in files:
        joint = "\n" if last != "\n" else ""
        for text in pieces:
            yield joint + text
            joint, last = "", text[-1]


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
    """The text of `file`, which the user knows as `path`, in pieces that are not empty."""
    shown = _shown(path)
    try:
        old_mac = ends_lines_in_cr(file, shown, encoding, size)
        with open_bytes(file, shown) as stream:
            yield from decoded(stream, shown, encoding, partial(stream.read, size), old_mac=old_mac)
    except (OSError, EOFError, zlib.error) as error:  # the last two: a truncated or damaged .gz
        raise CorpusError(f"cannot read {shown}: {getattr(error, 'strerror', None) or error}") from error


def decoded(
    stream: BufferedReader, shown: str, encoding: str, read: Callable[[], bytes], *, old_mac: bool = False
) -> Iterator[str]:
    """The text that `stream` holds, in pieces as `read` gives them from it, but none is empty.

    Its byte order mark says how it is encoded, or else `encoding` does. Carriage returns alone end lines if `old_mac`.
    Raises `CorpusError` where a byte cannot be decoded, after all that stands before it.
    """
    encoding = spelling(stream.peek(), shown, encoding)
    decoder = codecs.getincrementaldecoder(encoding)()
    # translate or not, it holds back a \r at the end of a piece: what follows may be the \n that belongs to it
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
            raise CorpusError(_undecodable(shown, encoding, problem, line, offset - held_back)) from problem
        if not raw:
            return
        offset += len(raw)


def ends_lines_in_cr(file: Path, shown: str, encoding: str, size: int) -> bool:
    """Whether carriage returns are line ends, as on an old Mac: the file has some, and no newline.

    In other files one without a newline behind it is a character. Only a file without any newline is read to its end.
    """
    seen = False
    with open_bytes(file, shown) as stream:
        decoder = codecs.getincrementaldecoder(spelling(stream.peek(), shown, encoding))("replace")
        while raw := stream.read(size):
            text = decoder.decode(raw)
            if "\n" in text:
                return False
            seen = seen or "\r" in text
    return seen


def _undecodable(shown: str, encoding: str, error: UnicodeDecodeError, line: int, offset: int) -> str:
    """What to tell about a byte that the encoding does not allow; `error` counts from byte `offset` of the file."""
    place = f"line {line}, byte {offset + error.start} is 0x{error.object[error.start]:02x}"
    advice = "say how it is encoded, for example --encoding cp1252 or --encoding latin-1"
    return f"{shown} is not {encoding.removesuffix('-sig')}: {place}; {advice}"


def _shown(path: Path) -> str:
    return STANDARD_INPUT if str(path) == "-" else str(path)
