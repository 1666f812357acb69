"""Writing without copying."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from texts import VERSES

import charlm
from charlm.errors import SettingsError
from charlm.inside.novelty import matches
from charlm.progress import result
from charlm.sampling.filters import Picker
from charlm.sampling.noise import streams
from charlm.sampling.novel import Copies, Passages
from charlm.sampling.settings import Request, SampleSettings
from charlm.text.tokenizers import CharTokenizer, WordTokenizer

Typed = Callable[..., tuple[int, str, str]]


def longest_copy(text: str) -> int:
    return int(result(matches(text, VERSES))[0].max())


def wrote(outcome: tuple[int, str, str]) -> str:
    """The text, without the newline that ends the command's output."""
    assert outcome[0] == 0
    return outcome[1].removesuffix("\n")


@given(st.text("ab", max_size=30), st.integers(1, 5), st.text("ab", min_size=1, max_size=5))
def test_a_text_knows_its_passages(text: str, length: int, passage: str) -> None:
    passage = passage[:length]
    assert (passage in Passages(text, length)) == (len(passage) == length and passage in text)


@pytest.mark.parametrize("how", [[], ["--temperature", "0"], ["--top-k", "1"], ["--top-p", "0.5"]])
def test_a_parrot_that_may_not_copy_does_not(typed: Typed, parrot: Path, how: list[str]) -> None:
    words = ["sample", parrot, "--length", "300", "--seed", "3", "--prompt", "WICK:\n", *how]
    copied, novel = wrote(typed(*words)), wrote(typed(*words, "--novel", "20"))
    assert longest_copy(copied) > 30
    assert longest_copy(novel) <= 20
    assert len(novel) == len(copied)
    assert wrote(typed(*words, "--novel", "20")) == novel


def test_a_passage_counts_from_where_it_begins_in_the_prompt(typed: Typed, parrot: Path) -> None:
    prompt = "Then stand on me, go"
    said = wrote(typed("sample", parrot, "--prompt", prompt, "--length", "100", "--novel", "20", "--seed", "1"))
    assert said.startswith(prompt)
    assert not said.startswith(prompt + "o")
    assert longest_copy(said) <= 20


def test_each_row_of_a_batch_is_watched_by_itself(parrot: Path) -> None:
    lm = charlm.load(parrot)
    rows = ["", "", ""]
    for piece in lm.pieces(Request(length=200, samples=3, novel=16), known=VERSES):
        rows = [row + new for row, new in zip(rows, piece.texts, strict=True)]
    assert len(set(rows)) == 3
    assert max(map(longest_copy, rows)) <= 16


def test_a_limit_that_is_never_reached_changes_nothing(parrot: Path, typed: Typed) -> None:
    words = ["sample", parrot, "--length", "100", "--seed", "1"]
    assert typed(*words)[1] == typed(*words, "--novel", "1000")[1]


def test_a_token_of_many_characters_is_refused_for_any_of_them() -> None:
    tokenizer = WordTokenizer([], ["abcd", "xbcx", "xabc"])
    abcd, xbcx, xabc = 256, 257, 258
    copies = Copies(Passages("..abc..", 3), tokenizer, "..", 1)
    assert copies.refuses(0, abcd)
    assert not copies.refuses(0, xbcx)
    assert copies.refuses(0, xabc)
    assert copies.refuses(0, ord("a"))  # "..a" stands there too
    copies.append([ord("x")])
    assert not copies.refuses(0, ord("a"))


def test_a_character_of_many_bytes_is_looked_at_when_it_is_whole() -> None:
    copies = Copies(Passages("a☃", 2), CharTokenizer([], spell=True), "a", 1)
    for byte in "☃".encode()[:-1]:
        assert not copies.refuses(0, byte)
        copies.append([byte])
    assert copies.refuses(0, "☃".encode()[-1])
    assert copies.refuses(0, "☃".encode()[-1])  # looking changes nothing


def test_where_everything_would_copy_it_goes_on_as_it_would_have() -> None:
    tokenizer = CharTokenizer([ord("a"), ord("b")], spell=False)
    copies = Copies(Passages("abba", 1), tokenizer, "", 1)
    pick = Picker(SampleSettings("0"), streams(0, [0]), copies=copies)
    assert int(pick(torch.tensor([[1.0, 2.0]]))) == 1
    assert int(pick(torch.tensor([[2.0, 1.0]]))) == 0


def test_the_limit_needs_the_training_text_and_is_a_number(parrot: Path, typed: Typed) -> None:
    with pytest.raises(SettingsError, match="--novel needs the training text"):
        next(charlm.load(parrot).pieces(Request(novel=9)))
    assert "--novel must be at least 0, got -1" in typed("sample", parrot, "--novel", "-1")[2]
