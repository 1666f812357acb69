"""A sorted text is noticed, because its end, which is held out, is another text than the rest."""

from __future__ import annotations

import gzip
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm.text.corpus import Corpus
from charlm.text.order import SortCheck
from charlm.text.pairs import PairCorpus

Typed = Callable[..., tuple[int, str, str]]


def names(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 9))).title() for _ in range(count)]


def in_order(lines: list[str], size: int = 1 << 20) -> bool:
    text, order = "\n".join(lines) + "\n", SortCheck()
    for at in range(0, len(text), size):
        order.add(text[at : at + size])
    return order.sorted


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_sorted_lines_are_noticed_wherever_a_piece_ends(size: int) -> None:
    lines = names(300)
    assert not in_order(lines, size)
    assert in_order(sorted(lines), size)
    assert in_order(sorted(lines, reverse=True), size)
    assert in_order(sorted(lines + [name.lower() for name in lines]), size)  # capitals first, as LC_ALL=C sorts
    assert in_order([line for name in sorted(lines) for line in (name, "", name)], size)


def test_what_is_no_order_is_none() -> None:
    assert not in_order(sorted(names(40)))  # too few to say
    assert not in_order(["a a"] * 1000)
    assert not in_order([*sorted(names(500)), *names(500, 1)])
    assert not in_order([*names(2000), *sorted(names(5000))])
    assert not in_order(["x" * 10_000_000])


def test_a_text_of_a_person_is_not_sorted(data: Path) -> None:
    for name in ("tinyshakespeare.txt", "covid19-faq.txt"):
        assert not Corpus.open([data / name]).sorted


def test_training_and_check_say_how_to_shuffle(typed: Typed) -> None:
    text = "\n".join(sorted(names(900))) + "\n"
    Path("names.txt").write_text(text)
    Path("names.gz").write_bytes(gzip.compress(text.encode()))
    tiny = ["--steps", "2", "--hidden-size", "8"]
    code, out, error = typed("train", "names.txt", *tiny)
    assert (code, error) == (0, "")
    assert "note: the lines stand in alphabetical order" in out
    assert "cat names.txt | shuf > shuffled.txt" in out
    assert "gzip -dc names.gz | shuf > shuffled" in typed("train", "names.gz", *tiny)[1]
    assert "alphabetical" not in typed("train", "names.txt", *tiny, "--val-frac", "0", "--test-frac", "0")[1]
    assert "cat names.txt | shuf > shuffled.txt" in typed("corpus", "check", "names.txt")[1]


def test_pairs_in_two_files_are_shuffled_together(typed: Typed) -> None:
    for side in "ab":
        Path(side).write_text("\n".join(sorted(names(200))) + "\n")
    assert PairCorpus.open(["a"], ["b"]).sorted
    sizes = ["--steps", "2", "--hidden-size", "8", "--tokenizer", "char"]
    assert "paste SOURCE TARGET | shuf" in typed("train", "--source", "a", "--target", "b", *sizes)[1]
