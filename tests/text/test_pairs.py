"""Pairs as files hold them, and as ids."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from charlm.errors import CorpusError
from charlm.kinds import open_any
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.text.pair_store import PairSettings, PairStore, prepare_pairs
from charlm.text.pairs import Pair, PairCorpus
from charlm.text.records import lines

PAIRS = [Pair("Guten Tag", "Good day"), Pair("eins\u2028zwei", "one two"), Pair("drei", "three"), Pair("Ü", "ü")]


def tsv(path: Path, text: str) -> PairCorpus:
    path.write_text(text, encoding="utf-8")
    return PairCorpus.open([path])


def store(corpus: PairCorpus, **settings: object) -> PairStore:
    return result(prepare_pairs(corpus, PairSettings(tokenizer="char", **settings)))  # type: ignore[arg-type]


def test_every_form_holds_the_same_pairs(tmp_path: Path) -> None:
    columns = "".join(f"{a}\t{b}\n" for a, b in PAIRS)
    (tmp_path / "a.tsv").write_text(columns, encoding="utf-8")
    (tmp_path / "windows.tsv").write_bytes(columns.replace("\n", "\r\n").encode())
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(columns.encode()))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(p._asdict()) + "\n" for p in PAIRS), encoding="utf-8")
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PAIRS), encoding="utf-8")
    for side in Pair._fields:
        (tmp_path / side).write_text("".join(f"{getattr(p, side)}\n" for p in PAIRS), encoding="utf-8")
    files = [([name], []) for name in ("a.tsv", "windows.tsv", "a.tsv.gz", "a.jsonl", "list.jsonl")]
    for sources, targets in [*files, (["source"], ["target"])]:
        read = PairCorpus.open([tmp_path / name for name in sources], [tmp_path / name for name in targets])
        assert list(read) == PAIRS
        assert read.count == 4
        assert read.notes == []


def test_a_broken_line_is_named_and_counted(tmp_path: Path) -> None:
    read = tsv(tmp_path / "a.tsv", "a\tb\nno tab\n\n\tonly a target\nonly a source\t \nc\td\tsource of it\n")
    assert list(read) == [("a", "b"), ("c", "d")]
    assert read.notes == [
        "4 lines are no pair and were left out: "
        "line 2 (has no tab), 3 (is empty), 4 (has no source), 5 (has no target)",
        "1 line has more than two columns; what is beyond the second was left out",
    ]


def test_of_many_broken_lines_the_first_are_named(tmp_path: Path) -> None:
    read = tsv(tmp_path / "a.tsv", "a\tb\n" + "x\n" * 100)
    assert read.notes[0].startswith("100 lines are no pair")
    assert read.notes[0].endswith("6 (has no tab) and 95 more")


@pytest.mark.parametrize(
    "line", ['{"source": "a"}', "[1, 2]", '["a", "b", "c"]', "a\tb", '{"source": "a", "target": null}', "[" * 10_000]
)
def test_a_line_of_json_that_is_no_pair_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'["a", "b"]\n{line}\n')
    (note,) = PairCorpus.open([tmp_path / "a.jsonl"]).notes
    assert "line 2 (holds no texts source and target)" in note


def test_two_files_of_different_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n2\n3\n")
    (tmp_path / "b").write_text("1\n2\n")
    with pytest.raises(CorpusError, match=r"b has 2 lines and .*a has more"):
        _ = PairCorpus.open([tmp_path / "a"], [tmp_path / "b"]).count


def test_a_file_without_any_pair_is_refused_and_told_what_a_pair_is(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no pair: line 1 has no tab; a pair is a line of two texts"):
        _ = tsv(tmp_path / "a.tsv", "nothing\n").count


@pytest.mark.parametrize(
    ("name", "text", "pairs"),
    [
        ("a.tsv", "one column\n", True),
        ("a.JSONL.gz", "", False),
        ("fra.txt", "Go.\tVa !\tCC-BY\n" * 30, True),
        ("a.txt", "a\tb\n" * 10 + "a line without\n", True),
        ("a.txt", "a\tb\n" * 10 + "a line without\n" * 5, False),
        ("a.txt", "To be\n", False),
        ("a.txt", "", False),
    ],
)
def test_the_name_or_the_first_lines_say_whether_a_file_holds_pairs(
    name: str, text: str, pairs: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    kind, corpus = open_any([tmp_path / name], [], "utf-8", ["text", "pairs"])
    assert (kind.name(), type(corpus)) == (("pairs", PairCorpus) if pairs else ("text", Corpus))
    kind, corpus = open_any([tmp_path / name], [], "utf-8", ["text"])
    assert (kind.name(), type(corpus)) == ("text", Corpus)


def numbered(tmp_path: Path, count: int = 40) -> PairCorpus:
    return tsv(tmp_path / "n.tsv", "".join(f"s{n}\tt{n}\n" for n in range(count)))


def test_the_last_pairs_are_held_out_and_come_back_as_they_were(tmp_path: Path) -> None:
    made = store(numbered(tmp_path), val_frac=0.1, test_frac=0.2)
    parts = [part.texts(made.vocabularies) for part in (made.train, made.validation, made.test)]
    assert [len(sources) for sources, _ in parts] == [28, 4, 8]
    sources, targets = ([text for part in parts for text in part[side]] for side in (0, 1))
    assert sources == [f"s{n}" for n in range(40)]
    assert targets == [f"t{n}" for n in range(40)]
    assert made.test.chars == made.test.bytes == sum(len(f"t{n}\n") for n in range(32, 40))


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word", "bpe", "bytebpe", "unigram"])
@pytest.mark.parametrize("share_vocab", [False, True])
def test_every_tokenizer_keeps_both_sides_whole(tokenizer: str, share_vocab: bool, tmp_path: Path) -> None:
    corpus = tsv(tmp_path / "a.tsv", "".join(f"{a} {n} \t{b}  {n} \n" for n in range(20) for a, b in PAIRS))
    settings = PairSettings(tokenizer=tokenizer, share_vocab=share_vocab, vocab_size=320)  # type: ignore[arg-type]
    made = result(prepare_pairs(corpus, settings))
    found = [Pair(*both) for both in zip(*made.train.texts(made.vocabularies), strict=True)]
    assert found == list(corpus)[: len(found)]
    assert made.vocabularies.shared is share_vocab
    assert made.vocabularies.from_json(made.vocabularies.to_json()).sha256 == made.vocabularies.sha256


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path) -> None:
    made = store(numbered(tmp_path), max_length=2, val_frac=0.0, test_frac=0.0)
    assert made.train.texts(made.vocabularies)[0] == [f"s{n}" for n in range(10)]
    assert made.notes == ["30 pairs are longer than --max-length 2 tokens and were left out"]
    with pytest.raises(CorpusError, match="of 40 pairs is left: 4 are held out, and 40 are longer than the 1 tokens"):
        store(numbered(tmp_path), max_length=1)


def test_a_file_that_is_sorted_by_length_is_noticed(tmp_path: Path) -> None:
    corpus = tsv(tmp_path / "a.tsv", "".join(f"{'a' * (n // 4 + 1)}\tb\n" for n in range(100)))
    assert "shuffle its lines first" in store(corpus).notes[-1]


def test_held_out_pairs_that_stand_in_the_training_part_are_counted(tmp_path: Path) -> None:
    """Of 40, the last 8: both texts must be equal, and one of several equal ones counts, too."""
    pairs = [f"s{n}\tt{n}" for n in range(32)]
    held_out = ["s0\tt0", "s0\tt0", "s1\tt2", "s2\tt2", "s3\tt3 ", "new\tnew", "new\tnew", "s31\tt31"]
    made = store(tsv(tmp_path / "a.tsv", "\n".join(pairs + held_out)), val_frac=0.1, test_frac=0.1)
    (note,) = made.notes
    assert note.startswith("4 of 8 held-out pairs stand in the training part too")
    assert store(numbered(tmp_path), val_frac=0.1, test_frac=0.1).notes == []


def test_blanks_around_a_text_belong_to_it_in_every_form(tmp_path: Path) -> None:
    pairs = [Pair("  if x:", "    return x "), Pair("a\u2028", "\x0bb\x85\x1c"), Pair("\u3000c\x0c", "d\r")]
    (tmp_path / "a.tsv").write_bytes("".join(f"{a}\t{b}\n" for a, b in pairs[:2]).encode())
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(p._asdict()) + "\n" for p in pairs))
    (tmp_path / "ended.jsonl").write_text("".join(json.dumps([f"{a}\n", f"{b}\r\n"]) + "\n" for a, b in pairs))
    for side in Pair._fields:
        (tmp_path / side).write_bytes("".join(f"{getattr(p, side)}\n" for p in pairs[:2]).encode())
    assert list(PairCorpus.open([tmp_path / "a.tsv"])) == pairs[:2]
    assert list(PairCorpus.open([tmp_path / "source"], [tmp_path / "target"])) == pairs[:2]
    assert list(PairCorpus.open([tmp_path / "a.jsonl"])) == list(PairCorpus.open([tmp_path / "ended.jsonl"])) == pairs


@pytest.mark.parametrize("stray", ["\r", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c", "\x1d", "\x1e"])
def test_what_other_programs_take_for_a_line_end_moves_no_line_of_two_files(stray: str, tmp_path: Path) -> None:
    sources, targets = ([f"{side}{n}" for n in range(100)] for side in "st")
    sources[30] = f"s{stray}30"
    for name, texts in (("a", sources), ("b", targets)):
        (tmp_path / name).write_bytes("".join(f"{text}\n" for text in texts).encode())
    assert list(PairCorpus.open([tmp_path / "a"], [tmp_path / "b"])) == list(map(Pair, sources, targets))


def test_tables_and_json_lines_are_read_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\nbroken\n")
    (tmp_path / "b.jsonl").write_text('["c", "d"]\n{"source": "e"}\n')
    read = PairCorpus.open([tmp_path / "a.tsv", tmp_path / "b.jsonl"])
    assert list(read) == [("a", "b"), ("c", "d")]
    assert "line 2 (has no tab), 4 (holds no texts source and target) of all files together" in read.notes[0]


def test_a_line_may_be_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 3_000_000 + "\nb\n\nc")
    assert [len(line) for line in lines(Corpus.open([tmp_path / "a.txt"]).chunks())] == [3_000_000, 1, 0, 1]


def test_a_vocabulary_that_is_given_is_used(tmp_path: Path) -> None:
    first = store(numbered(tmp_path))
    again = result(prepare_pairs(numbered(tmp_path, 12), first.settings, first.vocabularies))
    assert again.vocabularies is first.vocabularies
    assert again.corpus_sha256 != first.corpus_sha256
