"""What a text costs, character by character."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import charlm
from charlm import job
from charlm.inside.surprise import Surprise, kind, reach, surprise
from charlm.plan import Plan
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.views.score import heat_map
from charlm.writer import Writer

Typed = Callable[..., tuple[int, str, str]]
TEXT = "WICK:\nThe lamp is out, the tide is in.\nPEG: I am wet."


def test_the_costs_of_all_characters_are_the_cost_of_the_text(trained: Path) -> None:
    writer = charlm.load(trained)
    found = result(surprise(writer, TEXT))
    assert found.bits.shape == (len(TEXT),)
    assert found.bits_per_byte == pytest.approx(result(writer.scoring(TEXT)).bits_per_byte, rel=1e-5)
    assert sum(bits.sum() for _, bits in found.lines()) == pytest.approx(found.bits.sum())
    for totals in (found.by_class(), found.by_place_in_word(), found.by_distance()):
        assert sum(total.chars for total in totals) == len(TEXT)
        assert sum(total.chars * total.bits for total in totals) == pytest.approx(found.bits.sum())


@torch.no_grad()
def test_a_character_costs_what_the_model_says_of_it(trained: Path) -> None:
    writer = charlm.load(trained)
    ids = torch.from_numpy(writer.tokenizer.encode("\n" + TEXT))[None]
    logprobs = writer.model(ids[:, :-1]).logits.log_softmax(-1).gather(2, ids[:, 1:, None])[0, :, 0]
    np.testing.assert_allclose(result(surprise(writer, TEXT)).bits, -logprobs.numpy() / math.log(2), atol=1e-4)


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_a_token_of_many_characters_and_a_character_of_many_tokens_share_their_cost(
    verses: Path, tokenizer: str
) -> None:
    text = verses.read_text() + "Ünd mörè, 𝄞!\n" * 30
    verses.write_text(text)
    sizes = {"hidden_size": 16, "steps": 5, "tokenizer": tokenizer, "vocab_size": 310}
    for _ in job.train(Plan.of({"arch": "lstm", **sizes}), Corpus.open([verses]), out=Path("run")):
        pass
    writer = Writer.load("run")
    found = result(surprise(writer, "mörè 𝄞 lamp"))
    assert found.bits.shape == (11,)
    assert found.bits_per_byte == pytest.approx(result(writer.scoring("mörè 𝄞 lamp")).bits_per_byte, rel=1e-5)
    assert (found.bits > 0).all()


def test_a_text_is_read_as_the_runs_own_text_was(typed: Typed, trained: Path) -> None:
    Path("windows.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    told = json.loads(typed("score", trained, "windows.txt", "--json")[1])
    assert told["text"] == TEXT


def test_kinds_places_and_distances_have_names() -> None:
    assert [kind(c) for c in "aA 3\n,"] == ["letter", "capital", "blank", "digit", "newline", "punctuation"]
    words = Surprise("It's so, abcdefgh", np.ones(17)).by_place_in_word()
    assert [(total.name, total.chars) for total in words] == [
        ("character 1", 3),
        ("character 2", 3),
        ("character 3", 2),
        ("character 4", 2),
        ("between words", 3),
        ("character 5", 1),
        ("character 6 on", 3),
    ]
    assert [reach(at) for at in (0, 3, 4, 15, 16, 100)] == [
        "0 to 3 before", "0 to 3 before", "4 to 15 before", "4 to 15 before", "16 to 63 before", "64 to 255 before",
    ]  # fmt: skip


def test_a_line_ends_at_a_newline_and_nowhere_else() -> None:
    found = Surprise("a\x0bb\u2028c\nd", np.ones(7))
    assert ["".join(line) for line, _ in found.lines()] == ["a\x0bb\u2028c\n", "d"]


def test_a_letter_and_its_marks_are_one_character() -> None:
    text = "नि, e\u0301É\n\u0301"
    found = Surprise(text, 2.0 ** np.arange(len(text)))
    assert found.lines()[0][0] == ["नि", ",", " ", "e\u0301", "É", "\n"]
    assert [bits.tolist() for _, bits in found.lines()] == [[3, 4, 8, 48, 64, 128], [256]]
    kinds = {total.name: (total.chars, total.bits) for total in found.by_class()}
    assert kinds["letter"] == (2, 25.5)
    assert kinds["capital"] == (1, 64)
    places = {total.name: total.chars for total in found.by_place_in_word()}
    assert places == {"character 1": 2, "between words": 4, "character 2": 1}
    assert [total.chars for total in found.by_distance()] == [4, 3]
    assert heat_map(found).plain.startswith("नि, e\u0301É↵")


def test_the_command_colours_a_text_and_saves_the_picture(typed: Typed, trained: Path) -> None:
    Path("text.txt").write_text(TEXT)
    code, out, error = typed("score", trained, "text.txt", "--html", "a.html", "--svg", "a.svg")
    assert code == 0, error
    assert "PEG: I am wet." in out
    assert "bits per byte" in out
    for name in ("a.html", "a.svg"):
        page = Path(name).read_text()
        assert not re.search(r"(url\(|src=|href=)[\"']?http", page)  # nothing is fetched from the web
        assert "#" in page
    told = json.loads(typed("score", trained, "text.txt", "--json")[1])
    assert len(told["bits"]) == len(TEXT)
    assert [line["text"] for line in told["lines"]] == TEXT.split("\n")


def test_a_run_differs_from_itself_nowhere(typed: Typed, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standard_input = type("", (), {"buffer": io.BytesIO(TEXT.encode())})
    monkeypatch.setattr(sys, "stdin", standard_input)
    told = json.loads(typed("score", trained, "-", "--diff", trained, "--json")[1])
    assert told["ahead"] == [0] * len(TEXT)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["no.txt"], "no.txt"), (["b", "c"], "one run and one file, got 3")],
)
def test_what_cannot_be_scored_is_refused(typed: Typed, trained: Path, words: list[str], message: str) -> None:
    code, out, error = typed("score", trained, *words)
    assert (code, out) == (2, "")
    assert message in error
