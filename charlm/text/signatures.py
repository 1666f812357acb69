"""What a file is, by its first bytes: a text in some encoding, or something that a text must be taken out of first."""

from __future__ import annotations

import codecs
import gzip
import re
import shlex
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import cast

from charlm.errors import CorpusError

HEAD = 1 << 13  # first bytes of a file, by which it is judged
GZIP = b"\x1f\x8b"
STANDARD_INPUT = "standard input"
WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")

MARKS = {  # with which a text may begin; the longest first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

PLAIN = "save it as plain text"
PANDOC = f"{PLAIN}, or: pandoc {{file}} -t plain -o {{text}}"
NUMBERS = "it holds numbers; name a text"
TABLE = "write its column of text as CSV, with pandas: READER({name!r})[['text']].to_csv({csv!r}, index=False)"
OTHERS = (  # how a file begins that is no text, what it is, and how to get the text; the first that fits counts
    (rb"PK\x03\x04.*word/(document|styles|settings)", "a Word document", PANDOC),
    (rb"PK\x03\x04.*xl/(workbook|worksheets|theme)", "an Excel workbook", "save its sheet as CSV"),
    (rb"PK\x03\x04.*ppt/(presentation|slides)", "a PowerPoint presentation", PLAIN),
    (rb"PK\x03\x04.*application/epub\+zip", "an EPUB book", "pandoc {file} -t plain -o {text}"),
    (rb"PK\x03\x04.*application/vnd\.oasis\.opendocument", "an OpenDocument file", PANDOC),
    (rb"PK\x03\x04.*/data\.pkl", "a file of PyTorch", NUMBERS),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive", "unzip {file}, and name the text that comes out"),
    (rb"%PDF-", "a PDF", "pdftotext {file} {text}"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", PLAIN),
    (rb"\{\\rtf", "an RTF document", PANDOC),
    (rb".{60}BOOKMOBI", "a Kindle book", "ebook-convert {file} {text}"),
    (rb"AT&TFORM", "a DjVu document", "djvutxt {file} {text}"),
    (rb"\xfd7zXZ\0", "compressed by xz", "xz -dk {file}"),
    (rb"BZh[1-9]1AY&SY", "compressed by bzip2", "bzip2 -dk {file}"),
    (rb"\x28\xb5\x2f\xfd", "compressed by zstd", "zstd -d {file}"),
    (rb"\x04\x22\x4d\x18", "compressed by lz4", "lz4 -d {file}"),
    (rb"\x1f[\x9d\xa0]", "compressed by compress", "gzip -d {file}"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x {file}, and name the text that comes out"),
    (rb"Rar!\x1a\x07", "a RAR archive", "unrar x {file}, and name the text that comes out"),
    (rb".{257}ustar(\0|  \0)", "a tar archive", "tar -xf {file}, and name the text that comes out"),
    (rb"PAR1[\0-\x08\x0e-\x1f]", "a Parquet table", TABLE.replace("READER", "read_parquet")),
    (rb"ARROW1\0", "an Arrow table", TABLE.replace("READER", "read_feather")),
    (rb"\xff{4}.{3}\0", "an Arrow table", "with datasets: Dataset.from_file({name!r}).to_csv({csv!r})"),
    (rb"SQLite format 3\0", "an SQLite database", "sqlite3 {file} 'select COLUMN from TABLE' > {text}"),
    (rb"\x80[\x02-\x05]", "a Python pickle", "write the text that is in it to a file"),
    (rb"\x93NUMPY|\x89HDF|GGUF[\x01-\x09]\0|.{4}\0{4}\{\"", "a file of arrays", NUMBERS),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a.{0,6}\0|RIFF.{4}WEBP|II\*\0|MM\0\*", "a picture", "tesseract {file} {stem}"),
    (rb"ID3[\x02-\x04]|OggS\0|fLaC\0|RIFF.{4}WAVE", "a sound recording", "write down what is said"),
    (rb"\0\0.{2}ftyp|RIFF.{4}AVI |\x1aE\xdf\xa3", "a film", "write down what is said"),
    (rb"\x7fELF|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe|\0asm|MZ.{0,62}\0", "a program", "name a text"),
)


@contextmanager
def open_bytes(file: Path, shown: str) -> Iterator[BufferedReader]:
    """The bytes of a text, decompressed on the fly; `shown` is what a person calls it.

    Raises `CorpusError` for what is no text, with what to do instead.
    """
    with file.open("rb", buffering=0) as raw:
        yield unpacked(raw, shown, gzipped=file.suffix.lower() == ".gz")


def unpacked(raw: RawIOBase, shown: str, *, gzipped: bool = False) -> BufferedReader:
    """As `open_bytes`; that it is `gzipped` may be known, and is else seen."""
    stream: BufferedReader = BufferedReader(raw, HEAD)
    if not stream.peek(HEAD):  # a keyboard's end is an end, however often it is asked
        stream.detach()
        return BufferedReader(BytesIO())
    if gzipped or stream.peek(HEAD).startswith(GZIP):
        stream = BufferedReader(cast(RawIOBase, gzip.GzipFile(fileobj=stream)), HEAD)
    head = stream.peek(HEAD)
    for start, what, advice in OTHERS:
        if re.match(start, head, re.DOTALL):
            raise CorpusError(f"{shown} is {what} and no text as it stands: {filled(advice, shown)}")
    return stream


def filled(advice: str, shown: str) -> str:
    """With the names of files as they are typed."""
    name = "FILE" if shown == STANDARD_INPUT else shown
    stem = str(Path(name).with_suffix(""))
    file, text, stem_ = map(shlex.quote, (name, f"{stem}.txt", stem))
    return advice.format(file=file, text=text, stem=stem_, name=name, csv=f"{stem}.csv")


def spelling(head: bytes, shown: str, encoding: str) -> str:
    """How a text that begins with `head` is encoded: as its byte order mark says, or else in `encoding`.

    Raises `CorpusError` for zero bytes, which no text has but in UTF-16 and UTF-32, and where these need the mark.
    """
    if by_mark := marked(head):
        return by_mark
    if head and codecs.lookup(encoding).name in ("utf-16", "utf-32"):
        raise CorpusError(f"{shown} is not {encoding}: it has no byte order mark; try --encoding {encoding}-le")
    if b"\0" not in head or 0 in "\n".encode(encoding):
        return encoding
    if wide := unmarked(head):
        raise CorpusError(f"{shown} is {wide.upper()} without a byte order mark; read it with --encoding {wide}")
    drop = filled("tr -d '\\0' < {file} > clean.txt", shown)
    raise CorpusError(
        f"{shown} is binary and no text: its byte {head.index(0)} is zero; from a text with a few such bytes they are "
        f"dropped so: {drop}"
    )


def marked(head: bytes) -> str | None:
    """The encoding that a byte order mark tells."""
    return next((encoding for mark, encoding in MARKS.items() if head.startswith(mark)), None)


def unmarked(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark: whichever gives most ASCII, and nothing that stands in no text."""
    if 10 * head.count(0) < len(head) and "\ufffd" not in loosely(head, "utf-8"):  # a text with a few zero bytes
        return None
    texts = {encoding: loosely(head, encoding) for encoding in WIDE}
    counts = {e: sum(map(str.isascii, text)) for e, text in texts.items() if not any(map(is_rubbish, text))}
    best = max(counts, key=counts.__getitem__, default="")
    return best if counts.get(best) else None


def loosely(head: bytes, encoding: str) -> str:
    """`head` decoded; its last character may be cut off."""
    return codecs.getincrementaldecoder(encoding)("replace").decode(head)


def is_rubbish(character: str) -> bool:
    """Whether it stands in no text: a control character, an unassigned one, or what could not be decoded."""
    if character in "\t\n\f\r":
        return False
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs")
