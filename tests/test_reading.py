"""Every command reads its texts alike: as UTF-8, or as their byte order mark or the command's own --encoding says."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm import job
from charlm.plan import Plan
from charlm.text.corpus import Corpus
from charlm.text.pairs import PairCorpus

Typed = Callable[..., tuple[int, str, str]]
TEXT = "PEG:\r\nThe broth – “and” the bench…\r\n" * 3  # all of it is in cp1252
SPELLINGS = {"utf-8": [], "utf-16": [], "cp1252": ["--encoding", "cp1252"]}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, `text` and `pairs`, that were trained on texts in cp1252."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "old.txt").write_bytes((TEXT * 40).encode("cp1252"))
    (folder / "old.tsv").write_bytes("".join(f"Füße – {n}\tfeet — {n}\n" for n in range(60)).encode("cp1252"))
    text, pairs = Corpus.open([folder / "old.txt"], "cp1252"), PairCorpus.open([folder / "old.tsv"], (), "cp1252")
    for name, corpus in {"text": text, "twin": text, "pairs": pairs}.items():
        arch = "seq2seq" if name == "pairs" else "lstm"
        sizes = {"arch": arch, "hidden_size": 8, "steps": 3, "tokenizer": "char", "encoding": "cp1252"}
        plan = Plan.of(sizes, kind="pairs" if name == "pairs" else "text")
        for _ in job.train(plan, corpus, out=folder / name, cache_dir=folder / "c"):
            pass
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "TEXT", "--text", "FILE"],
        ["eval", "TEXT", "--text", "-"],
        ["score", "TEXT", "FILE"],
        ["score", "TEXT", "-", "--json"],
        ["context", "TEXT", "--text", "FILE"],
        ["novelty", "TEXT", "--text", "FILE"],
        ["sample", "TEXT", "--prompt-file", "FILE", "--seed", "1", "--length", "9"],
        ["sample", "TEXT", "--prompt", "-", "--seed", "1", "--length", "9"],
        ["explain", "TEXT", "--prompt", "-"],
        ["neurons", "TEXT", "--text", "-"],
        ["eval", "PAIRS", "--pairs", "PAIR FILE"],
        ["translate", "PAIRS", "LINES"],
        ["translate", "PAIRS", "-"],
        ["attend", "PAIRS", "--text", "feet", "--source", "-"],
    ],
)
def test_what_a_run_was_trained_on_says_nothing_of_other_texts(
    words: list[str], old: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name.upper(): old / name for name in ("text", "pairs")}
    lines = "Füße – 1\r\n" if "PAIRS" in words else TEXT
    said = {}
    for encoding, option in SPELLINGS.items():
        for name, text in {"FILE": TEXT, "PAIR FILE": "Füße – 1\tfeet — 2\r\n", "LINES": lines}.items():
            Path(name).write_bytes(text.encode(encoding))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode(encoding))))
        code, said[encoding], error = typed(*(names.get(word, word) for word in words), *option)
        assert code == 0, error
    assert len(set(said.values())) == 1
    assert "Ã" not in said["utf-8"]


def test_runs_are_compared_on_a_text_that_is_piped_in(old: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode("cp1252"))))
    words = ["--text", "-", "--encoding", "cp1252", "--json"]
    code, out, error = typed("compare", old / "text", old / "twin", *words)
    assert code == 0, error
    plain = len(TEXT.replace("\r\n", "\n").encode())
    assert [run["bytes"] for row in json.loads(out)["rows"] for run in row["runs"]] == [plain] * 2


def test_the_option_that_is_advised_is_one_that_the_command_has(old: Path, typed: Typed) -> None:
    Path("FILE").write_bytes(TEXT.encode("cp1252"))
    code, _, error = typed("eval", old / "text", "--text", "FILE")
    assert code == 2
    assert "FILE is not utf-8: line 2" in error
    assert "--encoding cp1252" in error


@pytest.mark.parametrize(
    "words",
    [
        ["eval"],
        ["context"],
        ["novelty"],
        ["sample"],
        ["sample", "--prompt", "PEG"],
        ["explain"],
        ["neurons", "--text", "PEG"],
        ["attend", "--text", "PEG"],
    ],
)
def test_an_encoding_of_nothing_is_refused(words: list[str], old: Path, typed: Typed) -> None:
    code, out, error = typed(words[0], old / "text", *words[1:], "--encoding", "cp1252")
    assert (code, out) == (2, "")
    assert "--encoding cp1252 is for a text that is read" in error


def test_a_new_line_that_was_meant_and_not_typed_is_remarked_on(old: Path, typed: Typed) -> None:
    run = old / "text"
    for words in (["sample", run, "--length", "1", "--stop", r"a\nb"], ["explain", run, "--prompt", r"a\nb"]):
        assert f"note: {words[-2]} holds a backslash and an n; a new line is typed as one" in typed(*words)[2]
    for option in ("--text", "--source"):
        words = ["attend", old / "pairs", "--text", "f", "--source", "F", option, r"a\nb"]
        assert f"note: {option} holds a backslash" in typed(*words)[2]
    assert "note:" not in typed("explain", run, "--prompt", "PEG:\nThe")[2]


def test_what_a_folder_leaves_out_is_told_by_whatever_reads_it(old: Path, typed: Typed) -> None:
    Path("texts").mkdir()
    Path("texts/a.md").write_text(TEXT * 20, encoding="utf-8")
    Path("texts/b.py").touch()
    said = "1 of 2 files in texts are read, .txt, .text and .md; others are read with a pattern: 'texts/**/*.py'"
    assert f"note: {said}" in typed("train", "texts", "--steps", "2", "--hidden-size", "8")[1]
    for words in (["eval", old / "text", "--text"], ["score", old / "text"]):
        code, _, error = typed(*words, "texts")
        assert (code, error) == (0, f"note: {said}\n")
