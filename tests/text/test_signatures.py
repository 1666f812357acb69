"""What is no text is called by its name, with the way to its text, and never trained on as noise."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from charlm.errors import CorpusError
from charlm.text.check import check
from charlm.text.corpus import Corpus
from charlm.text.signatures import unmarked

PROSE = "The harbour master counted the boats, as he did each evening.\n" * 9
Typed = Callable[..., tuple[int, str, str]]


def zipped(members: dict[str, str]) -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content, zipfile.ZIP_STORED if name == "mimetype" else None)
    return made.getvalue()


def tarred() -> bytes:
    with tarfile.open(fileobj=(made := io.BytesIO()), mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return made.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as base:
        base.execute("create table t (a text)")
    return base.serialize() if sys.version_info >= (3, 11) else b"SQLite format 3\0" + bytes(84)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    save(made := io.BytesIO())
    return made.getvalue()


OTHERS = {  # contents, what it is said to be, and what to type
    "a.docx": (
        zipped({"[Content_Types].xml": PROSE, "_rels/.rels": PROSE, "word/document.xml": PROSE}),
        "a Word document",
        "pandoc a.docx",
    ),
    "a.xlsx": (zipped({"[Content_Types].xml": PROSE, "xl/workbook.xml": PROSE}), "an Excel workbook", "CSV"),
    "a.epub": (zipped({"mimetype": "application/epub+zip", "1.xhtml": PROSE}), "an EPUB book", "pandoc a.epub"),
    "a.odt": (zipped({"mimetype": "application/vnd.oasis.opendocument.text"}), "an OpenDocument file", "pandoc a.odt"),
    "a b.zip": (zipped({"keyword/a.txt": PROSE}), "a zip archive", "unzip 'a b.zip'"),
    "none.zip": (zipped({}), "a zip archive", "unzip none.zip"),
    "a.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "a PDF", "pdftotext a.pdf a.txt"),
    "a.doc": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500), "an old Office document", "plain text"),
    "a.rtf": (rb"{\rtf1\ansi Hello}", "an RTF document", "pandoc a.rtf"),
    "a.xz": (lzma.compress(PROSE.encode()), "compressed by xz", "xz -dk a.xz"),
    "a.bz2": (bz2.compress(PROSE.encode()), "compressed by bzip2", "bzip2 -dk a.bz2"),
    "a.zst": (bytes.fromhex("28b52ffd0458"), "compressed by zstd", "zstd -d a.zst"),
    "a.7z": (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive", "7z x a.7z"),
    "a.tar": (tarred(), "a tar archive", "tar -xf a.tar"),
    "a.tar.gz": (gzip.compress(tarred()), "a tar archive", "tar -xf a.tar.gz"),
    "a.parquet": (b"PAR1\x15\x04\x15", "a Parquet table", "read_parquet('a.parquet')[['text']].to_csv('a.csv'"),
    "a.db": (database(), "an SQLite database", "sqlite3 a.db"),
    "a.pkl": (pickle.dumps(["text"]), "a Python pickle", "the text that is in it"),
    "a.pt": (saved(lambda file: torch.save({"a": torch.ones(3)}, file)), "a file of PyTorch", "holds numbers"),
    "a.npy": (saved(lambda file: np.save(file, np.ones(3))), "a file of arrays", "holds numbers"),
    "a.safetensors": (struct.pack("<Q", 2) + b'{"a":1}', "a file of arrays", "holds numbers"),
    "a.png": (b"\x89PNG\r\n\x1a\n", "a picture", "tesseract a.png a"),
    "a.jpg": (b"\xff\xd8\xff\xe0", "a picture", "tesseract a.jpg a"),
    "a.mp4": (b"\0\0\0\x20ftypisom", "a film", "what is said"),
    "python": (Path(sys.executable).read_bytes()[:9999], "a program", "name a text"),
    "a.bin": (np.arange(1000, dtype=np.uint16).tobytes(), "binary", r"tr -d '\0' < a.bin"),
    "zeros": (bytes(3000), "binary", "tr -d"),
    "a few": (PROSE.encode().replace(b"boats", b"bo\0ats"), "binary", r"tr -d '\0' < 'a few' > clean.txt"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_text_is_named_with_the_way_to_its_text(name: str, typed: Typed) -> None:
    content, what, advice = OTHERS[name]
    Path(name).write_bytes(content)
    for words in (["train", name], ["train", name, "--encoding", "latin-1"], ["corpus", "check", name]):
        code, _, error = typed(*words)
        assert code == 2
        assert error.startswith(f"charlm: {name} is {what} and no text")
        assert advice in error
        assert "--encoding" not in error
        assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_the_command_that_drops_zero_bytes_leaves_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(PROSE.encode().replace(b"boats", b"bo\0ats"))
    with pytest.raises(CorpusError) as refused:
        list(Corpus.open(["a.txt"]).chunks())
    subprocess.run(str(refused.value).split("dropped so: ")[1], shell=True, check=True)
    assert "".join(Corpus.open(["clean.txt"]).chunks()) == PROSE


@pytest.mark.parametrize("text", [PROSE, "Привет, мир!\n", "一日，一年。\n第二行\n" * 99, "a"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_texts_without_a_mark_are_recognised(text: str, encoding: str, tmp_path: Path, typed: Typed) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    for chosen in ([], ["--encoding", "latin-1"]):
        code, _, error = typed("train", "a.txt", *chosen)
        assert code == 2
        assert error.endswith(f"without a byte order mark; read it with --encoding {encoding}\n")
    assert "".join(Corpus.open(["a.txt"], encoding).chunks()) == text
    assert check("a.txt").encoding == encoding


def test_numbers_are_not_taken_for_letters() -> None:
    chance = np.random.default_rng(0)
    for dtype in ("<i2", "<u2", "<i4", "<f4"):
        for largest in (300, 30_000):
            assert unmarked((chance.normal(size=2000) * largest).astype(dtype).tobytes()) is None


@pytest.mark.parametrize(
    "start", ["PK", "BZh9 is", "MZ", "ID3 tags", "II* and", "RIFF", "€", "7z", "GIF", "%PD", "{\\r"]
)
def test_texts_that_begin_like_something_else_are_texts(start: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(start + " " + PROSE, encoding="utf-8")
    assert next(Corpus.open(["a.txt"]).chunks()).startswith(start)


def test_what_comes_through_a_pipe_is_judged_as_well(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lzma.compress(b"text"))))
    code, _, error = typed("train", "-")
    assert (code, error) == (
        2,
        "charlm: standard input is compressed by xz and no text as it stands: xz -dk FILE\n",
    )


@pytest.mark.parametrize(
    "start", ["PAR1 is a receptor.", "GGUF is a format.", "GIF89a is another.", "x" * 254 + "ajustar la"]
)
def test_a_text_about_a_format_is_a_text(start: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(start + " And so on.\n" * 30)
    assert "".join(Corpus.open([tmp_path / "a.txt"]).chunks()).startswith(start)
