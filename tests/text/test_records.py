"""JSON lines and CSV are read by the names of their fields, and what is read is said."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm.errors import CorpusError
from charlm.kinds import open_any
from charlm.text.check import check
from charlm.text.corpus import Corpus
from charlm.text.pairs import Pair, PairCorpus

Typed = Callable[..., tuple[int, str, str]]
TEXTS = ["To be, or\nnot to be.", "  indented, “quoted” and long" * 9, "One\r\ntwo\n\n", 'a "word", again']
RUNNING = "To be, or\nnot to be.\n\n" + TEXTS[1] + '\n\nOne\ntwo\n\na "word", again\n\n'
PAIRS = [Pair("Guten Tag, Frau Ü", "Good day"), Pair('"eins" ', "  one"), Pair("drei;", "three,\u2028")]
TINY = ["--steps", "2", "--hidden-size", "8", "--tokenizer", "char"]


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def table(names: list[str], *rows: list[str], delimiter: str = ",") -> str:
    csv.writer(made := io.StringIO(), delimiter=delimiter, lineterminator="\r\n").writerows([names, *rows])
    return made.getvalue()


TEXT_FILES = {
    "a.jsonl": jsonl(*({"id": n, "text": text} for n, text in enumerate(TEXTS))),
    "a.ndjson": jsonl(*({"text": text} for text in TEXTS)),
    "a.csv": table(["text"], *([text] for text in TEXTS)),
    "b.csv": table(["id", "Text", "url"], *([str(n), text, "x"] for n, text in enumerate(TEXTS))),
    "c.csv": table(["id", "text"], *([str(n), text] for n, text in enumerate(TEXTS)), delimiter=";"),
}
PAIR_FILES = {
    "a.jsonl": jsonl(*({"id": 1, "source": a, "target": b} for a, b in PAIRS)),
    "b.jsonl": jsonl(*PAIRS),
    "c.jsonl": jsonl(*({"translation": {"de": a, "en": b}} for a, b in PAIRS)),
    "d.jsonl": jsonl({"translation": {"de": PAIRS[0][0], "en": PAIRS[0][1]}})
    + jsonl(*({"translation": {"en": b, "de": a}} for a, b in PAIRS[1:])),  # the first line says which is which
    "a.csv": table(["source", "target"], *map(list, PAIRS)),
    "b.csv": table(["id", "Target", "Source"], *(["1", b, a] for a, b in PAIRS), delimiter=";"),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", TEXT_FILES)
def test_a_field_named_text_is_the_running_text(name: str, size: int, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TEXT_FILES[name].encode())
    _, corpus = open_any([tmp_path / name], [], "utf-8", ["text", "pairs"])
    assert isinstance(corpus, Corpus)
    assert "".join(corpus.chunks(size)) == RUNNING
    assert corpus.notes == [f"of {tmp_path / name} the field text is read, with an empty line after each"]


@pytest.mark.parametrize("name", PAIR_FILES)
def test_every_form_of_pairs_holds_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(PAIR_FILES[name].encode()))
    _, corpus = open_any([tmp_path / f"{name}.gz"], [], "utf-8", ["text", "pairs"])
    assert isinstance(corpus, PairCorpus)
    assert list(corpus) == PAIRS
    assert corpus.notes == []


@pytest.mark.parametrize(
    ("name", "text", "arch"),
    [
        *((name, text, "lstm") for name, text in TEXT_FILES.items()),
        *((name, text, "seq2seq") for name, text in PAIR_FILES.items()),
        ("a.csv", "city,people\nRome,3\n" * 30, "lstm"),
        ("a.jsonl", '{"question": "Why?", "answer": "So."}\n' * 30, "lstm"),
    ],
)
def test_what_is_trained_where_nothing_is_said_follows_from_the_fields(
    name: str, text: str, arch: str, typed: Typed
) -> None:
    Path(name).write_text(text, encoding="utf-8", newline="")
    code, out, error = typed("train", name, *TINY)
    assert (code, error) == (0, "")
    assert Path(f"runs/{Path(name).stem}-{arch}").is_dir()
    assert ("--arch seq2seq" in check(name).suggestions[-1]) == (arch == "seq2seq")
    if name not in TEXT_FILES or text not in TEXT_FILES.values():
        return
    assert f"note: of {name} the field text is read" in out


@pytest.mark.parametrize(
    ("name", "text", "fields"),
    [
        (
            "a.csv",
            "city,people\nRome,3\n" * 30,
            "columns is named text, nor two source and target (it has city, people)",
        ),
        ("a.jsonl", '{"q": "Why?"}\n' * 30, "keys is named text, nor two source and target (it has q)"),
        ("a.jsonl", "not JSON\n" * 30, "keys is named text, nor two source and target"),
    ],
)
def test_other_records_are_read_as_they_stand_with_a_word(name: str, text: str, fields: str, typed: Typed) -> None:
    Path(name).write_text(text)
    assert f"note: {name} is read as it stands: none of its {fields}\n" in typed("train", name, *TINY)[1]
    assert "".join(Corpus.open([name]).chunks()) == text


def test_a_pipe_is_read_like_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, files in ((RUNNING, TEXT_FILES), (PAIRS, PAIR_FILES)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(files["a.jsonl"].encode())))
        _, corpus = open_any(["-"], [], "utf-8", ["text", "pairs"])
        assert (list(corpus) if isinstance(corpus, PairCorpus) else "".join(corpus.chunks())) == text


def test_records_without_a_text_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl({"text": "a"}, {"text": None}, {"text": "b"}, {"text": "c"}) + "{broken\n")
    corpus = Corpus.open([tmp_path / "a.jsonl"])
    assert "".join(corpus.chunks()) == "a\n\nb\n\nc\n\n"
    assert corpus.notes[-1] == f"2 records of {tmp_path / 'a.jsonl'} have no text and were left out"


def test_rows_that_are_no_pair_are_named(tmp_path: Path) -> None:
    rows = table(["source", "target"], ["a", "b"], ["c"], ["d", "e\nf"], ["g", " "])
    (tmp_path / "a.csv").write_text(rows, newline="")
    read = PairCorpus.open([tmp_path / "a.csv"])
    assert list(read) == [("a", "b")]
    assert read.notes[0].startswith(
        "3 lines are no pair and were left out: line 3 (holds no texts source and target), 4"
    )
    (tmp_path / "b.csv").write_text("de,en\na,b\n")
    with pytest.raises(CorpusError, match=r"holds no pair: line 2 holds no texts source and target; .* CSV with"):
        _ = PairCorpus.open([tmp_path / "b.csv"]).count


def test_csv_that_is_none_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\nfine\n"odd" end\n')
    with pytest.raises(CorpusError, match=r"a\.csv cannot be read as CSV: line 3: "):
        list(Corpus.open([tmp_path / "a.csv"]).chunks())


def test_a_record_may_be_a_book(tmp_path: Path) -> None:
    book = "It was a dark night.\n" * 150_000
    (tmp_path / "a.jsonl").write_text(jsonl({"text": book}, {"text": book}))
    (tmp_path / "a.csv").write_text(table(["text"], [book], [book]), newline="")
    for name in ("a.jsonl", "a.csv"):
        assert Corpus.open([tmp_path / name]).chars == 2 * len(book) + 2


def test_prose_is_never_taken_for_records(tmp_path: Path) -> None:
    prose = ("[Enter HAMLET]\n", "{\n  a = 1;\n}\n", "text\nsource,target\n", "1\n2\n", "[" * 9999)
    for text in (some * 30 for some in prose):
        (tmp_path / "a.txt").write_text(text)
        _, corpus = open_any([tmp_path / "a.txt"], [], "utf-8", ["text", "pairs"])
        assert isinstance(corpus, Corpus)
        assert "".join(corpus.chunks()) == text
        assert not corpus.notes


def test_a_row_with_more_fields_than_the_header_is_left_out_and_not_cut(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nHello, world\nfine\n")
    corpus = Corpus.open([tmp_path / "a.csv"])
    assert "".join(corpus.chunks()) == "fine\n\n"
    assert corpus.notes[-1] == f"1 records of {tmp_path / 'a.csv'} have no text and were left out"
    (tmp_path / "b.csv").write_text("source,target\na, b,c\n\nd,e\n")
    read = PairCorpus.open([tmp_path / "b.csv"])
    assert list(read) == [("d", "e")]
    assert "line 2 " in read.notes[0]


def test_the_first_record_that_has_two_languages_says_which_is_the_source_for_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl({"translation": {"de": "x"}}, {"translation": {"de": "eins", "en": "one"}}))
    (tmp_path / "b.jsonl").write_text(jsonl({"translation": {"en": "two", "de": "zwei"}}))
    assert list(PairCorpus.open([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])) == [("eins", "one"), ("zwei", "two")]


def test_records_in_the_order_of_their_numbers_are_not_sorted_sentences(tmp_path: Path) -> None:
    words = [f"{7919 * n % 1000:03}" for n in range(400)]
    (tmp_path / "a.jsonl").write_text(
        jsonl(*({"id": f"{n:04}", "source": w, "target": w} for n, w in enumerate(words)))
    )
    assert not PairCorpus.open([tmp_path / "a.jsonl"]).sorted


def test_what_is_left_out_is_said_at_the_first_training_too(typed: Typed) -> None:
    Path("a.jsonl").write_text(jsonl(*({"text": "to be or not to be"} for _ in range(40)), {"no": 1}))
    for _ in range(2):
        assert "note: 1 records of a.jsonl have no text and were left out" in typed("train", "a.jsonl", *TINY)[1]
