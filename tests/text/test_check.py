"""`charlm corpus check` says what is in a file, right to the character, and what to type about it."""

from __future__ import annotations

import codecs
import gzip
import lzma
import os
import random
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from charlm.errors import CorpusError
from charlm.text import check as module
from charlm.text.check import Report, check

PROSE = """\
The harbour master counted the boats, as he did each evening, and wrote the number down.
Nobody had asked him to; but a number that is written down stays where it was put.
“Seven,” he said. “Yesterday it was eight, and the sea is no wider than it used to be.”
"""

Check = Callable[..., Report]


@pytest.fixture
def report(tmp_path: Path) -> Check:
    def of(content: str | bytes, name: str = "text.txt") -> Report:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return check(path)

    return of


def advice(report: Report) -> str:
    return "\n".join(report.suggestions)


def novel(characters: int, seed: int = 1) -> str:
    """A text without repeated passages, in lines of about 60 characters."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(1, 9))) for _ in range(3000)]
    lines = [" ".join(chance.choices(words, k=11)) for _ in range(characters // 60)]
    return "\n".join(lines) + "\n"


def test_pairs_are_seen_by_their_name_or_their_columns(report: Check) -> None:
    for name, text in (("a.tsv", "ab\tba\n"), ("a.txt", "ab\tba\nc\tc\n"), ("a.jsonl", '["ab", "ba"]\n')):
        assert report(text, name).suggestions[-1].endswith(f"{name} --arch seq2seq")


def test_an_ordinary_text_is_counted_right(report: Check) -> None:
    found = report(PROSE)
    assert (found.bytes, found.characters) == (len(PROSE.encode()), len(PROSE))
    assert found.bytes > found.characters  # the curly quotes
    assert (found.encoding, found.byte_order_mark, found.not_utf8) == ("utf-8", False, None)
    assert (found.lines, found.longest_line) == (3, max(map(len, PROSE.splitlines())))
    assert found.vocabulary == len(set(PROSE))
    assert found.sampled == found.bytes
    assert found.zlib == 8 * len(zlib.compress(PROSE.encode(), 9)) / found.bytes
    assert found.xz == 8 * len(lzma.compress(PROSE.encode())) / found.bytes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("ab é€𝄞\n\r\t\x01\x85\u2028"), min_size=1, max_size=60), piece=st.integers(1, 9))
@example(text="a\r\r\nb", piece=2)
def test_where_the_file_is_cut_into_pieces_does_not_matter(tmp_path: Path, text: str, piece: int) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        found = check(path)
    plain = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    lines = plain.removesuffix("\n").split("\n")
    assert found.characters == len(plain)
    assert (found.lines, found.longest_line) == (len(lines), max(map(len, lines)))
    assert found.windows_newlines == text.count("\r\n")
    assert found.vocabulary == len(set(plain))
    assert {one.character: one.times for one in found.rare} == {c: plain.count(c) for c in plain if plain.count(c) < 5}
    assert {one.character for one in found.controls} == set(plain) & {"\x01", "\x85", "\r"}


def test_rare_characters_have_names_and_come_rarest_first(report: Check) -> None:
    found = report("aaaaa" + "é" * 4 + "☃" * 2 + "\x07" * 3 + "\n" * 5)
    assert found.rare == (("☃", "SNOWMAN", 2), ("\x07", "U+0007", 3), ("é", "LATIN SMALL LETTER E WITH ACUTE", 4))


@pytest.mark.parametrize(
    ("content", "encoding", "bad_line", "typed"),
    [
        (PROSE.encode("cp1252"), "cp1252", 3, "--encoding cp1252"),
        ("Grüße\x81 aus Köln\n".encode("latin-1"), "latin-1", 1, "--encoding latin-1"),
        (PROSE.encode("utf-16-le"), "utf-16-le", 1, "--encoding utf-16-le"),
        (PROSE.encode("utf-32-be"), "utf-32-be", 1, "--encoding utf-32-be"),
    ],
)
def test_another_encoding_is_recognised_and_the_option_is_named(
    report: Check, content: bytes, encoding: str, bad_line: int, typed: str
) -> None:
    found = report(content)
    assert (found.encoding, found.not_utf8) == (encoding, bad_line)
    assert typed in found.suggestions[0]
    assert content.decode(encoding).count("\n") == found.lines
    assert found.characters == len(content.decode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_reported_and_not_counted(report: Check, encoding: str) -> None:
    found = report(PROSE.encode(encoding))
    assert (found.encoding, found.byte_order_mark) == (encoding.removesuffix("-sig"), True)
    assert found.characters == len(PROSE)
    assert "--encoding" not in advice(found)  # for it is read as the mark says


def test_an_encoding_that_is_known_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Füße привет\n".encode("koi8-r", "replace"))
    found = check(tmp_path / "a.txt", "koi8-r")
    assert (found.encoding, found.vocabulary) == ("koi8-r", len(set("F??e привет\n")))
    assert "--encoding koi8-r" in found.suggestions[-1]
    with pytest.raises(CorpusError, match="is not utf-8: line 1"):
        check(tmp_path / "a.txt", "utf-8")


def test_a_damaged_utf8_text_is_not_taken_for_another_encoding(report: Check, tmp_path: Path) -> None:
    lines = (PROSE * 10).encode().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"number", b"num\xffber")
    found = report(b"".join(lines))
    assert (found.encoding, found.not_utf8) == ("utf-8", 5)
    assert found.suggestions[0].startswith("line 5 is not UTF-8")
    command = found.suggestions[0].split("bytes: ")[1]
    subprocess.run(command, shell=True, cwd=tmp_path, check=False, stderr=subprocess.DEVNULL)
    assert (tmp_path / "clean.txt").read_text(encoding="utf-8") == PROSE * 10


def test_a_text_that_ends_within_a_character_is_damaged_in_its_last_line(report: Check) -> None:
    found = report((PROSE * 10).encode() + b"caf\xc3")
    assert (found.encoding, found.not_utf8, found.lines) == ("utf-8", 31, 31)


def test_gzip_is_read_through(report: Check) -> None:
    plain, packed = report(PROSE), report(gzip.compress(PROSE.encode()), "text.txt.gz")
    assert (packed.bytes, packed.vocabulary, packed.zlib) == (plain.bytes, plain.vocabulary, plain.zlib)


def test_a_text_that_ends_without_a_newline_has_that_line_too(report: Check) -> None:
    assert (report("one\ntwo").lines, report("one\ntwo\n").lines) == (2, 2)
    assert report("one line").longest_line == 8


def test_repeated_lines_are_counted_without_the_empty_ones(report: Check) -> None:
    found = report("KENT:\nyes\n\n\n\nKENT:\nno\n\nKENT:\nperhaps so\n")
    assert found.duplicated_lines == pytest.approx(2 / 6)
    assert found.most_repeated_line == ("KENT:", 3)


def test_many_copies_of_lines_bring_a_command_that_drops_them(report: Check, tmp_path: Path) -> None:
    found = report(PROSE * 5)
    assert "80% of the lines repeat an earlier one" in advice(found)
    command = advice(found).split("the first of each: ")[1].splitlines()[0]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "clean.txt").read_text(encoding="utf-8") == PROSE


def test_long_repeated_passages_are_noticed_though_no_line_is_repeated(report: Check) -> None:
    text = novel(100_000).replace("\n", " ")
    assert "long passages occur more than once" in advice(report(text * 4))
    assert "long passages" not in advice(report(text))


def test_control_characters_bring_a_command_that_drops_them(report: Check, tmp_path: Path) -> None:
    found = report(PROSE.replace("boats", "bo\x01ats\x1b\x85"))
    assert [(one.name, one.times) for one in found.controls] == [("U+0001", 1), ("U+001B", 1), ("U+0085", 1)]
    command = advice(found).split("to drop them: ")[1].splitlines()[0]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "clean.txt").read_text(encoding="utf-8") == PROSE


@pytest.mark.parametrize(("different", "min_count", "bpe"), [(30, True, False), (600, True, True), (3, False, False)])
def test_rare_characters_and_large_vocabularies_bring_their_options(
    report: Check, different: int, min_count: bool, bpe: bool
) -> None:
    text = advice(report(novel(30_000) + "".join(chr(0x4E00 + i) for i in range(different)) + "\n"))
    assert ("--min-count 5" in text, "--tokenizer bpe" in text) == (min_count, bpe)


@pytest.mark.parametrize(
    ("characters", "options"),
    [
        (5_000, "--layers 1 --hidden-size 64 --dropout 0.5"),
        (100_000, "--layers 1 --hidden-size 128 --dropout 0.5"),
        (1_100_000, "--layers 2 --hidden-size 256"),
        (9_000_000, "--layers 2 --hidden-size 768"),
    ],
)
def test_the_model_to_start_with_grows_with_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: int, options: str
) -> None:
    monkeypatch.setattr(module, "SAMPLE", 1000)
    path = tmp_path / "my text.txt"
    path.write_text(("one line of it\n" * (characters // 15 + 1))[:characters])
    last = check(path).suggestions[-1]
    assert last.endswith(f"charlm train '{path}' --arch lstm {options}")
    assert ("100,000 characters or more" in last) == (characters < 20_000)


def test_a_big_text_is_sampled_where_it_says_so(report: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 1000)
    text = "".join(f"line {i}\n" for i in range(500)) + "the end\n" * 500
    found = report(text)
    assert (found.sampled, found.bytes, found.lines) == (1000, len(text), 1000)
    assert found.duplicated_lines == 0
    assert found.zlib == 8 * len(zlib.compress(text[:1000].encode(), 9)) / 1000


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "empty.txt"),
        (codecs.BOM_UTF8, "mark.txt"),
        (b"not gzip", "a.gz"),
        (gzip.compress(b"a", mtime=0)[:-9], "b.gz"),
    ],
)
def test_a_file_that_holds_no_text_is_an_error_that_names_it(report: Check, content: bytes, name: str) -> None:
    with pytest.raises(CorpusError, match=name):
        report(content, name)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot read .*nowhere\.txt: No such file"):
        check(tmp_path / "nowhere.txt")


def test_a_play_is_not_told_to_drop_its_speakers() -> None:
    path = Path(os.environ.get("CHARLM_DATA", "")) / "tinyshakespeare.txt"
    if "CHARLM_DATA" not in os.environ or not path.exists():
        pytest.skip("CHARLM_DATA does not point to a folder that holds tinyshakespeare.txt")
    found = check(path)
    assert (found.characters, found.vocabulary, found.lines) == (1_115_394, 65, 40_000)
    assert found.most_repeated_line == ("GLOUCESTER:", 229)
    assert len(found.suggestions) == 1
