"""What a file is, by its first bytes: a text in some encoding, or a format from which the text must be taken first."""

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

MARKS = {  # byte order marks; the longest first, as that of UTF-32 begins with that of UTF-16
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
OTHERS = (  # (pattern of the first bytes, what such a file is, how to get at its text); the first that matches counts
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
def open_bytes(file: Path, name: str) -> Iterator[BufferedReader]:
    """The bytes of a text file, gunzipped on the fly. Errors call it `name`.

    Raises `CorpusError` for a file that is no text, with what to do instead.
    """
    with file.open("rb", buffering=0) as raw:
        yield unpacked(raw, name, gzipped=file.suffix.lower() == ".gz")


def unpacked(raw: RawIOBase, name: str, *, gzipped: bool = False) -> BufferedReader:
    """As `open_bytes`, of a stream. Without `gzipped` its first bytes tell whether it is."""
    stream: BufferedReader = BufferedReader(raw, HEAD)
    if not stream.peek(HEAD):  # at a terminal the end is read once: asking again would wait for more
        stream.detach()
        return BufferedReader(BytesIO())
    if gzipped or stream.peek(HEAD).startswith(GZIP):
        stream = BufferedReader(cast(RawIOBase, gzip.GzipFile(fileobj=stream)), HEAD)
    head = stream.peek(HEAD)
    for pattern, what, advice in OTHERS:
        if re.match(pattern, head, re.DOTALL):
            raise CorpusError(f"{name} is {what} and no text as it stands: {with_names(advice, name)}")
    return stream


def with_names(advice: str, name: str) -> str:
    """`advice` with the names of files filled in, quoted for the shell."""
    name = "FILE" if name == STANDARD_INPUT else name
    stem = str(Path(name).with_suffix(""))
    file, text, stem_ = map(shlex.quote, (name, f"{stem}.txt", stem))
    return advice.format(file=file, text=text, stem=stem_, name=name, csv=f"{stem}.csv")


def detect_encoding(head: bytes, name: str, encoding: str) -> str:
    """The encoding of a text that begins with `head`: what its byte order mark says, or else `encoding`.

    Raises `CorpusError` for zero bytes, which only UTF-16 and UTF-32 have, and for these without a byte order mark.
    """
    if by_mark := marked(head):
        return by_mark
    if head and codecs.lookup(encoding).name in ("utf-16", "utf-32"):
        raise CorpusError(f"{name} is not {encoding}: it has no byte order mark; try --encoding {encoding}-le")
    if b"\0" not in head or 0 in "\n".encode(encoding):
        return encoding
    if wide := unmarked(head):
        raise CorpusError(f"{name} is {wide.upper()} without a byte order mark; read it with --encoding {wide}")
    drop = with_names("tr -d '\\0' < {file} > clean.txt", name)
    raise CorpusError(
        f"{name} is binary and no text: its byte {head.index(0)} is zero; from a text with a few such bytes they are "
        f"dropped so: {drop}"
    )


def marked(head: bytes) -> str | None:
    """The encoding that a byte order mark at the start of `head` names; None without one."""
    return next((encoding for mark, encoding in MARKS.items() if head.startswith(mark)), None)


def unmarked(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark: the one that makes `head` most ASCII and no rubbish, or else None."""
    if 10 * head.count(0) < len(head) and "\ufffd" not in decode_head(head, "utf-8"):  # UTF-8 with a few zero bytes
        return None
    texts = {encoding: decode_head(head, encoding) for encoding in WIDE}
    ascii_counts = {name: sum(map(str.isascii, text)) for name, text in texts.items() if not any(map(is_rubbish, text))}
    best = max(ascii_counts, key=ascii_counts.__getitem__, default="")
    return best if ascii_counts.get(best) else None


def decode_head(head: bytes, encoding: str) -> str:
    """`head` decoded, with U+FFFD for damage; a last character that is cut off is left out."""
    return codecs.getincrementaldecoder(encoding)("replace").decode(head)


def is_rubbish(character: str) -> bool:
    """Whether no text contains it: a control character, an unassigned one, or U+FFFD."""
    if character in "\t\n\f\r":
        return False
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs")
