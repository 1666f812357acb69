"""The baselines are right: counted by hand, against an independent loop, against xz itself, and on known figures."""

from __future__ import annotations

import lzma
import math
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm import baselines as module
from charlm.baselines import baselines, ngram, witten_bell, xz

POEM = """\
the cat sat on the mat
the rat sat on the cat
a hat is on the rat
the mat is flat
that cat is fat
the hat that sat
at that the cat spat
a rat at bat
the bat ate that
that is that
"""


def by_hand(train: str, validation: str, order: int) -> list[float]:
    """The equation, word for word, one character at a time."""
    alphabet = set(train + validation)

    def p(character: str, context: str) -> float:
        shorter = p(character, context[1:]) if context else 1 / len(alphabet)
        followers = [train[i + len(context)] for i in range(len(train) - len(context)) if train.startswith(context, i)]
        kinds = len(set(followers))
        if not followers:
            return shorter
        return (followers.count(character) + kinds * shorter) / (len(followers) + kinds)

    text, start = train + validation, len(train)
    return [p(text[i], text[max(0, i - order + 1) : i]) for i in range(start, len(text))]


def test_a_bigram_counted_by_hand() -> None:
    # a is followed by b twice and by c once: count(ab) = 2, count(a) = 3, T(a) = 2. Of the 8 characters 4 are an a;
    # 3 kinds, so p_1(b) = (2 + 3 * 1/3) / (8 + 3) = 3/11 and p_2(b | a) = (2 + 2 * 3/11) / (3 + 2) = 28/55.
    assert witten_bell("abacabca", "b", order=2)[0] == pytest.approx(28 / 55, abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_ten_lines_give_what_the_equation_gives(order: int) -> None:
    lines = POEM.splitlines(keepends=True)
    train, validation = "".join(lines[:8]), "".join(lines[8:]) + "quiz"
    expected = by_hand(train, validation, order)
    assert witten_bell(train, validation, order=order) == pytest.approx(expected, abs=1e-12)
    bits = sum(-math.log2(p) for p in expected)
    assert ngram(train, validation, order=order) == pytest.approx(bits / len(validation), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.text("abé\n", max_size=12), st.text("abcé", min_size=1, max_size=6), st.integers(1, 6))
def test_any_short_text_gives_what_the_equation_gives(train: str, validation: str, order: int) -> None:
    assert witten_bell(train, validation, order=order) == pytest.approx(by_hand(train, validation, order), abs=1e-12)


@pytest.mark.parametrize("context", ["", "the ", "on the", "zzzzzz", "cat z"])
def test_the_guesses_for_one_place_sum_to_one(context: str) -> None:
    train = POEM + "z"
    total = sum(witten_bell(train, context + character, order=6)[-1] for character in set(train))
    assert total == pytest.approx(1, abs=1e-12)


def test_one_repeated_character_costs_nothing() -> None:
    figures = baselines("a" * 1000, "a" * 100)
    assert figures is not None
    assert figures[:3] == (0, 0, 0)
    assert figures.xz < 1


def test_the_figures_are_those_of_order_0_1_and_6() -> None:
    train, validation = POEM * 2, "the cat that sat at the bat\n"
    figures = baselines(train, validation)
    assert figures is not None
    assert figures[:3] == tuple(ngram(train, validation, order=order) for order in (0, 1, 6))


def test_nothing_to_score_gives_no_figures() -> None:
    assert baselines("some text", "") is None
    assert baselines("", "") is None


@pytest.mark.parametrize("train", ["", "x", "ab", "abc"])
def test_a_tiny_training_text_gives_finite_figures(train: str) -> None:
    figures = baselines(train, "abracadabra, said x")
    assert figures is not None
    assert all(math.isfinite(bits) and bits > 0 for bits in figures)


def test_an_unseen_character_costs_what_witten_and_bell_say() -> None:
    # 3 characters of 2 kinds, an alphabet of 3 with the new one: p = (0 + 2/3) / (3 + 2).
    assert ngram("aab", "c", order=1) == pytest.approx(math.log2(5 / (2 / 3)))


def test_bits_are_shared_among_bytes_and_not_among_characters() -> None:
    for order in (0, 1, 6):
        latin = ngram("abab" * 50, "abba" * 5, order=order)
        assert ngram("αβαβ" * 50, "αββα" * 5, order=order) == pytest.approx(latin / 2)
    assert ngram("𝄞𝄢" * 9, "𝄞𝄢", order=0) == pytest.approx(1 / 4)


def test_xz_is_the_difference_of_two_real_xz_files() -> None:
    def packed(text: str) -> int:
        return len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))

    train, validation = POEM * 3 + "é", "the flat cat, für immer\n" * 4
    extra = packed(train + validation) - packed(train)
    assert xz(train, validation) == 8 * extra / len(validation.encode())
    figures = baselines(train, validation)
    assert figures is not None
    assert figures.xz == xz(train, validation)


def test_pure_chance_is_not_beaten() -> None:
    coin = random.Random(7)
    text = "".join(coin.choices("abcdefgh", k=60_000))  # exactly 3 bits of surprise in every byte
    figures = baselines(text[:50_000], text[50_000:])
    assert figures is not None
    assert figures.uniform == 3
    assert min(figures) > 2.99
    assert figures.unigram < 3.01


def test_a_long_text_is_cut_to_its_nearest_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_TRAIN", 30)
    monkeypatch.setattr(module, "LONGEST_VALIDATION", 5)
    assert baselines("z" * 99 + POEM[:30], POEM[30:]) == baselines(POEM[:30], POEM[30:35])


def data(name: str) -> str:
    path = Path(os.environ.get("CHARLM_DATA", "")) / name
    if "CHARLM_DATA" not in os.environ or not path.exists():
        pytest.skip(f"CHARLM_DATA does not point to a folder that holds {name}")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("order", "bits"), [(3, 2.58), (4, 1.93), (5, 1.70), (6, 1.67)])
def test_the_faq_of_the_two_lecture_notebooks_gives_the_figures_counted_before(order: int, bits: float) -> None:
    plain = str.maketrans({"—": "--", "–": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "\u202f": " "})
    text = re.sub(" +", " ", data("covid19-faq.txt").translate(plain))
    assert len(text) == 84_658
    cut = int(0.9 * len(text))
    assert ngram(text[:cut], text[cut:], order=order) == pytest.approx(bits, abs=0.005)


def test_more_context_helps_on_a_megabyte_of_shakespeare() -> None:
    text = data("tinyshakespeare.txt")
    cut = int(0.9 * len(text))
    figures = [ngram(text[:cut], text[cut:], order=order) for order in (0, 1, 6)]
    assert figures == pytest.approx([np.log2(65), 4.829, 2.450], abs=0.001)


def test_characters_that_only_half_exist_are_counted_like_any_other() -> None:
    found = baselines("aab\ud800" * 40, "aab\ud800" * 4)  # as Python reads an escape that stands alone
    assert found is not None
    assert 0 < found.ngram6 < found.unigram < found.uniform
