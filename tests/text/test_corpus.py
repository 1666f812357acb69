"""Whatever a text is on disk, what comes out is decoded text with plain newlines, or an error that says what to do."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import os
import sys
import threading
from pathlib import Path

import pytest
from pairwise import pairwise

from charlm.errors import CorpusError, SettingsError
from charlm.text.corpus import Corpus


def read(*paths: Path | str, encoding: str = "utf-8", size: int = 1 << 20) -> str:
    return "".join(Corpus.open(paths, encoding).chunks(size))


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Feeds `piped\\n` to the process and keeps its temporary files in `tmp_path`."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped\n")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


# What a path can be


def test_a_file_is_read_and_gives_the_name(tmp_path: Path) -> None:
    (tmp_path / "hamlet.txt").write_text("To be")
    assert read(tmp_path / "hamlet.txt") == "To be"
    assert Corpus.open([tmp_path / "hamlet.txt"]).name == "hamlet"
    (tmp_path / "enwik8").write_text("x")
    assert Corpus.open([tmp_path / "enwik8"]).name == "enwik8"


def test_gzip_is_decompressed_on_the_fly(tmp_path: Path) -> None:
    (tmp_path / "a.b.TXT.gz").write_bytes(gzip.compress("Füße\r\n".encode()))
    corpus = Corpus.open([tmp_path / "a.b.TXT.gz"])
    assert "".join(corpus.chunks()) == "Füße\n"
    assert corpus.name == "a.b"


@pytest.mark.parametrize("name", ["a.txt", "a"])
def test_gzip_is_known_by_its_first_bytes_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress("Füße\r\n".encode()))
    assert read(tmp_path / name) == "Füße\n"


def test_a_folder_is_its_text_files_sorted_without_the_hidden_ones(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    for name in ("b.txt", "a/z.md", "c.text", "d.txt.gz", "e.png", ".f.txt", ".git/g.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = f"{name}\n".encode()
        (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert read(folder) == "a/z.md\nb.txt\nc.text\nd.txt.gz\n"
    assert Corpus.open([folder]).name == "books"


def test_of_a_folder_it_is_said_what_is_left_out_and_how_to_read_it(tmp_path: Path) -> None:
    project = tmp_path / "my project"
    for name in ("README.md", "a.py", "b/c.py", "b/d.c", "Makefile", ".hidden.py", "run/config.json"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"{name}\n")
    (project / "run" / "tokenizer.json").touch()  # what a run has written is not counted either
    (note,) = Corpus.open([project]).notes
    pattern = note.split("pattern: ")[1].strip("'")
    assert note.startswith(f"1 of 5 files in {project} are read, .txt, .text and .md; ")
    assert (read(project), read(pattern)) == ("README.md\n", "a.py\nb/c.py\n")
    assert not Corpus.open([pattern]).notes
    (project / "README.md").unlink()
    with pytest.raises(CorpusError, match=r"holds no \.txt, \.text or \.md file; others .*\*\.py'"):
        Corpus.open([project])


def test_a_folder_given_as_a_dot_is_named_after_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    assert Corpus.open(["."]).name == tmp_path.name


def test_a_pattern_is_every_file_it_matches(tmp_path: Path) -> None:
    for name in ("b1.log", "a1.log", "a2.txt"):
        (tmp_path / name).write_text(name + "\n")
    assert read(tmp_path / "*.log") == "a1.log\nb1.log\n"
    assert Corpus.open([tmp_path / "?1.log"]).name == "a1"


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("odd name")
    (tmp_path / "a1.txt").write_text("the match")
    assert read(tmp_path / "a[1].txt") == "odd name"


@pytest.mark.usefixtures("standard_input")
def test_standard_input_can_be_read_twice_and_its_copy_goes_with_the_corpus(tmp_path: Path) -> None:
    corpus = Corpus.open(["-"])
    assert ["".join(corpus.chunks()) for _ in range(2)] == ["piped\n", "piped\n"]
    assert (corpus.name, corpus.paths) == ("stdin", (Path("-"),))
    assert len(list(tmp_path.iterdir())) == 1
    del corpus
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("standard_input")
def test_no_copy_of_standard_input_is_left_when_another_path_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CorpusError):
        Corpus.open(["-", "no such file"])
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_can_be_read_twice_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=["once"])
    writer.start()
    corpus = Corpus.open([tmp_path / "pipe"])
    writer.join()
    assert ["".join(corpus.chunks()) for _ in range(2)] == ["once", "once"]


# What comes out


def test_files_are_joined_by_a_newline_only_where_one_is_missing(tmp_path: Path) -> None:
    for name, text in {"1.txt": "one", "2.txt": "two\n", "3.txt": "", "4.txt": "four"}.items():
        (tmp_path / name).write_text(text)
    assert read(tmp_path) == "one\ntwo\nfour"
    assert read(tmp_path, size=1) == "one\ntwo\nfour"


@pytest.mark.parametrize("size", range(1, 9))
def test_line_ends_become_newlines_wherever_a_piece_ends(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\r\nb\rc\n\r\r\n\nd\r")
    assert read(tmp_path / "a.txt", size=size) == "a\nb\rc\n\r\n\nd\r"  # without a \n a \r is a character


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
def test_only_in_a_file_without_any_newline_a_carriage_return_ends_a_line(
    tmp_path: Path, encoding: str, size: int
) -> None:
    text = "\u010a\rb\r\rc"  # the first has the byte of a newline in UTF-16
    (tmp_path / "mac.txt").write_bytes(text.encode(encoding))
    (tmp_path / "unix.txt").write_bytes(f"{text}\n".encode(encoding))
    assert read(tmp_path / "mac.txt", encoding=encoding, size=size) == text.replace("\r", "\n")
    assert read(tmp_path / "unix.txt", encoding=encoding, size=size) == f"{text}\n"
    assert read(tmp_path, encoding=encoding, size=size) == text.replace("\r", "\n") + f"\n{text}\n"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "shift_jis", "gb18030"])
def test_characters_are_whole_wherever_a_piece_ends(tmp_path: Path, encoding: str, size: int) -> None:
    text = "日本語\nテキスト"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read(tmp_path / "a.txt", encoding=encoding, size=size) == text


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32-be"])
def test_the_byte_order_mark_of_each_file_goes(tmp_path: Path, encoding: str, size: int) -> None:
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_bytes("\ufeffx\ufeff".encode(encoding))
    assert read(tmp_path, encoding=encoding, size=size) == "x\ufeff\nx\ufeff"


def test_one_endless_line_comes_in_bounded_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("é" * 10_000, encoding="utf-8")
    pieces = list(Corpus.open([tmp_path / "a.txt"]).chunks(64))
    assert "".join(pieces) == "é" * 10_000
    assert max(map(len, pieces)) <= 64


def test_facts_are_those_of_the_text_and_not_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "unix.txt").write_bytes("Füße\n".encode())
    (tmp_path / "windows.txt").write_bytes("Füße\r\n".encode("utf-16"))
    unix, windows = Corpus.open([tmp_path / "unix.txt"]), Corpus.open([tmp_path / "windows.txt"], "utf-16")
    assert unix.sha256 == windows.sha256 == hashlib.sha256("Füße\n".encode()).hexdigest()
    assert (unix.chars, unix.bytes) == (windows.chars, windows.bytes) == (5, 7)


def test_the_survey_says_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a" * (3 << 20)))
    corpus = Corpus.open([tmp_path / "a.txt.gz"])
    progress = list(corpus.survey())
    assert len(progress) == 3
    assert all(0 < step.done <= step.total for step in progress)
    assert not list(corpus.survey())  # once is enough


# What can be wrong


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize(
    ("raw", "line", "byte", "value"),
    [
        (b"caf\xe9\n", 1, 3, "0xe9"),
        ("é\n\n€uro".encode() + b"\xff", 3, 10, "0xff"),
        (b"a\r\nb\rc\r\xfe", 2, 7, "0xfe"),
        (b"a\rb\r\xfe", 3, 4, "0xfe"),
        ("naïve €".encode()[:-1], 1, 7, "0xe2"),
        ("€".encode()[:2] + b"\n", 1, 0, "0xe2"),
    ],
)
def test_an_undecodable_byte_is_located(
    tmp_path: Path, raw: bytes, line: int, byte: int, value: str, size: int
) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(CorpusError, match=rf"a\.txt is not utf-8: line {line}, byte {byte} is {value}; .*latin-1"):
        read(tmp_path / "a.txt", size=size)


def test_an_undecodable_byte_is_located_in_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes(b"one\ntwo\n")
    (tmp_path / "2.txt").write_bytes(b"one\ntw\xf6\n")
    with pytest.raises(CorpusError, match=r"2\.txt is not utf-8: line 2, byte 6 is 0xf6"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("encoding", "asked", "size"),
    pairwise(["utf-8-sig", "utf-16", "utf-32"], ["utf-8", "cp1252", "utf-16-be"], [1, 3, 1 << 20]),
)
def test_what_a_byte_order_mark_says_holds_whatever_is_asked(
    tmp_path: Path, encoding: str, asked: str, size: int
) -> None:
    (tmp_path / "a.txt").write_bytes("Füße\n日本".encode(encoding))
    assert read(tmp_path / "a.txt", encoding=asked, size=size) == "Füße\n日本"


def test_all_before_an_undecodable_byte_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthr\xe9e\n")
    pieces = Corpus.open([tmp_path / "a.txt"]).raw()
    assert next(pieces) == "one\ntwo\nthr"
    with pytest.raises(CorpusError, match="line 3, byte 11"):
        next(pieces)


def test_utf_16_without_a_mark_is_an_error_that_says_what_to_try(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16-le"))
    if sys.byteorder == "little":
        with pytest.raises(CorpusError, match=r"a\.txt is not utf-16: "):
            read(tmp_path / "a.txt", encoding="utf-16")
    assert read(tmp_path / "a.txt", encoding="utf-16-le") == "text"


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "utf-8\0", ""])
def test_an_encoding_that_is_none_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(SettingsError, match="--encoding"):
        Corpus.open([tmp_path / "a.txt"], encoding)


def test_a_missing_file_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "shakespeare.txt").write_text("x")
    with pytest.raises(CorpusError, match=r"no file .*shakespere\.txt; did you mean .*shakespeare\.txt\?"):
        Corpus.open([tmp_path / "shakespere.txt"])
    with pytest.raises(CorpusError, match=r"no file .*nowhere/x\.txt$"):
        Corpus.open([tmp_path / "nowhere" / "x.txt"])


def test_where_there_is_no_text_file_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"holds no \.txt"):
        Corpus.open([tmp_path])
    with pytest.raises(CorpusError, match="no file matches"):
        Corpus.open([tmp_path / "*.txt"])
    with pytest.raises(CorpusError, match="no text was given"):
        Corpus.open([])


def test_a_damaged_gzip_file_is_an_error(tmp_path: Path) -> None:
    whole = gzip.compress(b"text" * 1000)
    for name, raw in {"cut": whole[:-9], "other": b"plain text", "wrong": whole[:20] + b"\xff" * 9}.items():
        (tmp_path / f"{name}.gz").write_bytes(raw)
        with pytest.raises(CorpusError, match=rf"cannot read .*{name}\.gz"):
            read(tmp_path / f"{name}.gz")


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(CorpusError, match=r"cannot read .*a\.txt: No such file"):
        Corpus.open([tmp_path])
    (tmp_path / "b.txt").write_text("b")
    corpus = Corpus.open([tmp_path / "b.txt"])
    (tmp_path / "b.txt").unlink()
    with pytest.raises(CorpusError, match=r"cannot read .*b\.txt: No such file"):
        list(corpus.chunks())


def test_a_pattern_may_match_a_folder_without_texts(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "cover.png").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("words")
    assert "".join(Corpus.open([tmp_path / "*"]).chunks()) == "words"
