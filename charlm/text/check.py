"""Facts about a text before anything is trained on it, and commands that they suggest.

The whole file is read, a piece at a time; what needs the text in memory is measured on its first 4 MB.
"""

from __future__ import annotations

import codecs
import io
import lzma
import math
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm import kinds
from charlm.errors import CorpusError
from charlm.files import in_shell
from charlm.text.corpus import Corpus, ends_lines_in_cr
from charlm.text.order import SortCheck, shuffle_advice
from charlm.text.signatures import HEAD, detect_encoding, marked, open_bytes, unmarked
from charlm.text.tokenizers import CODE_POINTS
from charlm.text.units import code_points

PIECE = 1 << 20  # bytes, or characters, read at a time
SAMPLE = 4 << 20  # bytes at the start of the text: xz takes a second for each megabyte
RARE = 5  # a character that occurs fewer times than this cannot be learnt


class CharacterCount(NamedTuple):
    """A character, its Unicode name, and how often it occurs."""

    character: str
    name: str
    times: int


@dataclass(frozen=True)
class Report:
    """Facts about one text. From `duplicated_lines` on they are those of its first `sampled` bytes."""

    path: Path
    bytes: int  # after gunzip
    encoding: str  # as given or guessed
    byte_order_mark: bool
    not_utf8: int | None  # the first line that is not UTF-8, counted from 1
    characters: int  # a line end of any kind counts as one, as in training
    lines: int
    longest_line: int
    windows_newlines: int
    vocabulary: int
    rare: tuple[CharacterCount, ...]  # those that occur fewer than 5 times, the rarest first
    controls: tuple[CharacterCount, ...]  # control characters, but newline and tab
    sampled: int  # bytes
    duplicated_lines: float  # share of the non-empty lines that repeat an earlier one
    sorted: bool  # its lines stand in alphabetical order
    most_repeated_line: tuple[str, int]  # (line, how often it occurs)
    zlib: float  # bits per byte of `zlib -9`, which looks back 32 kB
    xz: float  # bits per byte of `xz`, which looks back over all of the sample
    suggestions: tuple[str, ...] = ()  # the most pressing first; the last one is always a command to train with

    @property
    def option(self) -> str:
        """The option with which `charlm train` reads it right, after a space; "" if it needs none."""
        return "" if self.byte_order_mark or self.encoding == "utf-8" else f" --encoding {self.encoding}"


def check(path: str | Path, encoding: str | None = None) -> Report:
    """Read the text at `path` (plain or .gz); its encoding is guessed if none is given.

    Raises `CorpusError` if it is empty or cannot be read.
    """
    path = Path(path)
    if encoding:
        for _ in Corpus.open([path], encoding).chunks():
            pass  # raises where it cannot be decoded
    try:
        size = sum(len(piece) for piece in _pieces(path))
        with open_bytes(path, str(path)) as file:
            sample = file.read(SAMPLE)
        guess, not_utf8 = _guess(path, sample)
        encoding = guess if marked(sample) else encoding or guess
        old_mac = ends_lines_in_cr(path, str(path), encoding, PIECE)
        tally = _tally(path, encoding, old_mac=old_mac)
    except (OSError, EOFError, zlib.error) as error:  # the last two: a damaged .gz
        raise CorpusError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not tally.counts.any():
        raise CorpusError(f"{path} is empty")
    codes = np.flatnonzero(tally.counts).tolist()
    alphabet = [CharacterCount(chr(code), _name(chr(code)), int(tally.counts[code])) for code in codes]
    text = _plain(sample.decode(encoding, "replace"), old_mac=old_mac)
    lines = Counter(line for line in text.split("\n") if line.strip())
    order = SortCheck()
    order.add(text)
    report = Report(
        path=path,
        bytes=size,
        encoding="utf-8" if encoding == "utf-8-sig" else encoding,
        byte_order_mark=marked(sample) is not None,
        not_utf8=not_utf8,
        characters=int(tally.counts.sum()),
        lines=tally.lines,
        longest_line=tally.longest_line,
        windows_newlines=tally.windows_newlines,
        vocabulary=len(alphabet),
        rare=tuple(sorted((entry for entry in alphabet if entry.times < RARE), key=lambda entry: entry.times)),
        controls=tuple(entry for entry in alphabet if _is_control(entry.character)),
        sampled=len(sample),
        duplicated_lines=1 - len(lines) / lines.total() if lines else 0.0,
        sorted=order.sorted,
        most_repeated_line=lines.most_common(1)[0] if lines else ("", 0),
        zlib=8 * len(zlib.compress(sample, 9)) / len(sample),
        xz=8 * len(lzma.compress(sample)) / len(sample),
    )
    return replace(report, suggestions=(*_repairs(report), _training(report)))


def _pieces(path: Path) -> Iterator[bytes]:
    with open_bytes(path, str(path)) as file:
        while piece := file.read(PIECE):
            yield piece


def _guess(path: Path, sample: bytes) -> tuple[str, int | None]:
    """(the encoding that fits a file, its first line that is not UTF-8 or None)."""
    head = sample[:HEAD]
    encoding = marked(head) or unmarked(head) or detect_encoding(head, str(path), "utf-8")
    if encoding != "utf-8":
        return encoding, None if encoding == "utf-8-sig" else 1
    line = _first_bad_line(path, "utf-8")
    if line is None:
        return "utf-8", None
    text = sample.decode("utf-8", "replace")
    if 10 * text.count("\ufffd") < sum(not character.isascii() for character in text):
        return "utf-8", line  # damaged in a few places
    return ("cp1252" if _first_bad_line(path, "cp1252") is None else "latin-1"), line


def _first_bad_line(path: Path, encoding: str) -> int | None:
    """The number of the first line that is not in `encoding`, from 1; None if all are."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    for piece in chain(_pieces(path), [b""]):
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            return line + error.object[: error.start].count(b"\n")
        line += piece.count(b"\n")
    return None


class _Tally(NamedTuple):
    counts: NDArray[np.int64]  # how often each code point occurs
    lines: int
    longest_line: int
    windows_newlines: int


def _tally(path: Path, encoding: str, *, old_mac: bool) -> _Tally:
    counts = np.zeros(CODE_POINTS, np.int64)
    windows = longest = 0
    unfinished = 0  # characters since the last newline
    with open_bytes(path, str(path)) as raw, io.TextIOWrapper(raw, encoding, errors="replace", newline="") as file:
        while text := file.read(PIECE):
            while text.endswith("\r") and (more := file.read(1)):  # so that no piece ends between \r and \n
                text += more
            windows += text.count("\r\n")
            codes = code_points(_plain(text, old_mac=old_mac))
            counts += np.bincount(codes, minlength=len(counts))
            ends = np.flatnonzero(codes == ord("\n"))
            lengths = np.diff(ends, prepend=-1 - unfinished, append=len(codes)) - 1
            longest, unfinished = max(longest, int(lengths.max())), int(lengths[-1])
    return _Tally(counts, int(counts[ord("\n")]) + (unfinished > 0), longest, windows)


def _plain(text: str, *, old_mac: bool) -> str:
    """The text with the line ends that `Corpus` gives it."""
    text = text.replace("\r\n", "\n")
    return text.replace("\r", "\n") if old_mac else text


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and character not in "\n\t"


def _name(character: str) -> str:
    return unicodedata.name(character, f"U+{ord(character):04X}")  # control characters have no name


def _repairs(report: Report) -> Iterator[str]:
    """What is wrong with a text, and what to type against it."""
    file = in_shell(report.path)
    read = f"{'gunzip -c' if report.path.suffix.lower() == '.gz' else 'cat'} {file}"
    if report.option:
        yield f"it reads as {report.encoding} and not as UTF-8: charlm train {file}{report.option}"
    elif report.not_utf8 and report.encoding == "utf-8":
        yield (
            f"line {report.not_utf8} is not UTF-8 while most others are; "
            f"to drop such bytes: {read} | iconv -c -f utf-8 -t utf-8 > clean.txt"
        )
    if report.controls:
        times, names = sum(entry.times for entry in report.controls), ", ".join(c.name for c in report.controls[:3])
        yield (
            f"{times:,} control characters ({names}) are hardly meant to be there; "
            f"to drop them: {read} | perl -CS -pe 's/[^\\P{{Cc}}\\t\\n]//g' > clean.txt"
        )
    if report.duplicated_lines > 0.3:
        yield (
            f"{report.duplicated_lines:.0%} of the lines repeat an earlier one, which flatters the validation figure; "
            f"to keep the first of each: {read} | awk '!seen[$0]++' > clean.txt"
        )
    elif report.xz < 0.6 * report.zlib or report.xz < 1:
        yield (
            f"xz needs only {report.xz:.2f} bits per byte (prose: 2 to 3): long passages occur more than once, "
            "which flatters the validation figure; look for copies"
        )
    if report.sorted:
        yield shuffle_advice([report.path])
    if report.vocabulary > 500 or len(report.rare) > 20:
        yield (
            f"{len(report.rare):,} of its {report.vocabulary:,} different characters occur fewer than {RARE} times: "
            f"charlm train {file} --min-count {RARE}" + (" or --tokenizer bpe" if report.vocabulary > 500 else "")
        )


def _training(report: Report) -> str:
    """A command to train with: about as many parameters as characters, of which an LSTM layer has 8 hidden_size^2.

    Karpathy, char-rnn's Readme.
    """
    command = f"charlm train {in_shell(report.path)}{report.option}"
    with suppress(CorpusError):  # a text that cannot be decoded to its end may still tell its kind at the start
        kind = kinds.claimant(Corpus.open([report.path], report.encoding))
        if kind.name() != kinds.TEXT:
            return f"it holds {kind.noun}: {command} --arch {kind.arch}"
    characters = report.characters
    layers = 1 if characters < 300_000 else 2 if characters < 30_000_000 else 3
    ideal = math.sqrt(characters / (8 * layers))
    hidden_size = min((64, 128, 192, 256, 384, 512, 768, 1024), key=lambda size: abs(math.log(size / ideal)))
    command += f" --arch lstm --layers {layers} --hidden-size {hidden_size}"
    if characters < 1_000_000:
        few = "100,000 characters or more would do better; " if characters < 20_000 else ""
        return f"{few}a small text is soon learnt by heart, so a small model and much dropout: {command} --dropout 0.5"
    return f"a model with about as many parameters as the text has characters: {command}"
