"""The words nearest to a word, and sums of words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from charlm import job
from charlm.errors import SettingsError, VocabularyError
from charlm.inside.words import Term, nearest, parse
from charlm.plan import Plan
from charlm.text.corpus import Corpus
from charlm.text.tokenizers import WordTokenizer
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]

WORDS = WordTokenizer([], ["king", "queen", "man", "woman", "the", "King", "Kong", "..."])
ROYAL = {"king": "crown throne he his", "queen": "crown throne she her", "prince": "crown palace he son"}
PEOPLE = {"man": "field bread he his", "woman": "field bread she her", "boy": "school bread he son"}


def sentences(count: int) -> str:
    """Each word among the words that go with it: royal or not, he or she."""
    draw, around = Random(0), {**ROYAL, **PEOPLE}
    lines = []
    for _ in range(count):
        word = draw.choice(list(around))
        a, b, c = draw.sample(around[word].split(), 3)
        lines.append(f"{a} {b} {word} {c}\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows who goes with what."""
    folder = tmp_path_factory.mktemp("court")
    text = folder / "text.txt"
    text.write_text(sentences(3000), encoding="utf-8")
    plan = Plan.of(
        {"arch": "word2vec", "hidden_size": 16, "steps": 150, "window": 3, "subsample": 1e-2, "seq_len": 128}
    )
    for _ in job.train(plan, Corpus.open([text]), out=folder / "run", cache_dir=folder / "cache"):
        pass
    return folder / "run"


def test_what_keeps_the_same_company_is_near_and_royal_women_are_queens(court: Path, typed: Typed) -> None:
    code, shown, _ = typed("neighbours", court, "king", "--top", "100", "--json")
    assert code == 0
    cosine = {word["word"]: word["cosine"] for word in json.loads(shown)["words"]}
    assert min(cosine["queen"], cosine["man"]) > max(cosine["woman"], cosine["boy"])
    code, shown, _ = typed("analogy", court, "king", "-", "man", "+", "woman", "--json")
    assert code == 0
    said = json.loads(shown)
    assert said["words"][0]["word"] == "queen"
    assert said["terms"] == [
        {"sign": "+", "word": "king"},
        {"sign": "-", "word": "man"},
        {"sign": "+", "word": "woman"},
    ]
    assert {"king", "man", "woman"} & {word["word"] for word in said["words"]} == set()


def test_the_table_names_the_words_and_how_many_were_compared(court: Path, typed: Typed) -> None:
    code, shown, _ = typed("analogy", court, "king - man + woman", "--top", "1")
    assert code == 0
    first, row, *_, last = shown.rstrip("\n").split("\n")
    assert first.split() == ["word", "cosine"]
    assert row.split()[0] == "queen"
    assert last.startswith("the nearest to king - man + woman of ")


@pytest.mark.parametrize("arch", ["word2vec", "lstm", "transformer", "seq2seq", "encdec"])
def test_of_any_run_with_words_the_cosines_are_those_of_its_embedding(build: Build, arch: str) -> None:
    writer = build(arch, tokenizer=WORDS)
    model = writer.model
    table = model.encoder.embed if hasattr(model, "encoder") and hasattr(model.encoder, "embed") else model.embed
    vectors = table.weight.detach().double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = {word: 256 + n for n, word in enumerate(["king", "queen", "man", "woman"])}
    sum = vectors[ids["king"]] - vectors[ids["man"]] + vectors[ids["woman"]]
    found = nearest(writer, parse("king - man + woman"), top=1000)
    cosines = {near.word: near.cosine for near in found.words}
    assert cosines["queen"] == pytest.approx(vectors[ids["queen"]] @ sum / np.linalg.norm(sum), abs=1e-5)
    assert sorted(cosines.values(), reverse=True) == list(cosines.values())
    assert len(cosines) == found.compared
    assert "..." not in cosines
    assert "\n" not in cosines


def test_an_unknown_word_is_named_with_those_that_are_spelled_like_it(build: Build) -> None:
    writer = build("word2vec", tokenizer=WORDS)
    for word, hint in [("kingg", "king, King"), ("KONG", "Kong"), ("xylophone", "it has ")]:
        with pytest.raises(VocabularyError, match=f"has no word '{word}'; .*{hint}"):
            nearest(writer, [Term("+", word)])


@pytest.mark.parametrize("typed_in", ["king -", "king man", "- king", "king - + man", "king * man", ""])
def test_words_and_signs_take_turns(typed_in: str) -> None:
    with pytest.raises(SettingsError, match=r"such as king - man \+ woman; got"):
        parse(typed_in)


def test_a_run_without_words_is_told_how_to_get_some(trained: Path, typed: Typed) -> None:
    code, _, why = typed("neighbours", trained, "a")
    assert code == 2
    assert "no words (char)" in why
    assert "--arch word2vec" in why


@pytest.mark.parametrize(
    "command", [["sample"], ["score", "-"], ["lens", "--text", "king"], ["attend", "--text", "king"]]
)
def test_what_reads_no_text_says_what_it_is_for(command: list[str], court: Path, typed: Typed, verses: Path) -> None:
    name, *words = command
    words = [str(verses) if word == "-" else word for word in words]
    code, _, why = typed(name, court, *words)
    assert code == 2
    assert "charlm neighbours" in why


def test_the_run_may_be_left_out(court: Path, typed: Typed) -> None:
    Path("runs").mkdir()
    (Path("runs") / "court").symlink_to(court)
    for words in (["neighbours", "king"], ["analogy", "king", "-", "man"], ["analogy", "king - man"]):
        assert typed(*words)[0] == 0, words
