"""A text cut into units."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from charlm.text.characters import characters, continues
from charlm.text.units import (
    ALONE,
    LETTER,
    NUMBER,
    Units,
    category,
    code_points,
    group,
    phrases,
    pieces,
    words,
)

ASSIGNED = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) != "Cn")  # to this Python
MARKS = "".join(regex.findall(r"[\p{WB=Extend}\p{WB=ZWJ}]", ASSIGNED))
MARK = f"(?:(?<![\0-\x1f])[{MARKS}])*"  # behind a character that is not a newline or the like
ODD = "[\0\u2581\ud800-\udfff]"
RULES = [
    (words, re.compile(rf"(?:\w(?<![{MARKS}]){MARK})+|(?: {MARK})+|\n+|\t+|.{MARK}", re.DOTALL)),
    (phrases, re.compile(rf"{ODD}+| *[^ \n\0\u2581\ud800-\udfff]+|\n+| +")),
]
GPT2 = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
LETTERS = "ab_1é中٣  \n\n\t\r.,-\0\u2581\ud800\U0001f600\u0301\u093e\u200d\uff9e"
TEXTS = st.text(st.sampled_from(LETTERS), max_size=40) | st.text(max_size=40)

every_rule = pytest.mark.parametrize(("cut", "pattern"), RULES, ids=["words", "phrases"])


@every_rule
@given(text=TEXTS)
def test_units_are_those_of_a_regular_expression(
    cut: Callable[[str], Units], pattern: re.Pattern[str], text: str
) -> None:
    found = cut(text)
    assert [found.distinct[at] for at in found.inverse] == pattern.findall(text)
    assert len(set(found.distinct)) == len(found.distinct)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी में कितने", ["हिन्दी", " ", "में", " ", "कितने"]),
        ("cafe\u0301, n\u0303o", ["cafe\u0301", ",", " ", "n\u0303o"]),
        ("می\u200cخواهم کتاب", ["می\u200cخواهم", " ", "کتاب"]),
        ("שָׁלוֹם!", ["שָׁלוֹם", "!"]),
        ("ไม่ดี", ["ไม่ดี"]),
        ("\u2764\ufe0f\u2764\ufe0f", ["\u2764\ufe0f"] * 2),
        ("a\n\u0301\u0302b", ["a", "\n", "\u0301\u0302", "b"]),
        ("It's no more_than 3.5!", ["It", "'", "s", " ", "no", " ", "more_than", " ", "3", ".", "5", "!"]),
    ],
)
def test_marks_and_joiners_belong_to_the_letter_before_them(text: str, expected: list[str]) -> None:
    found = words(text)
    assert [found.distinct[at] for at in found.inverse] == expected


ENDINGS = st.text(st.sampled_from("'stmdrevlaé1² ٣   \n\n\t\r\x1c\x85\xa0\u2028.!\u0301\ud800"))


@given(ENDINGS | st.text(st.characters(exclude_categories=["Cn"])))  # those are unknown to this Python
@example("I'll say it's 'tis, they've 'llama' 're''s  's\n'd\t've")
def test_pieces_are_those_of_gpt_2s_regular_expression(text: str) -> None:
    found = pieces(text)
    assert [found.distinct[at] for at in found.inverse] == GPT2.findall(text)


def test_letters_numbers_and_blanks_are_what_unicode_says() -> None:
    """Characters that this Python does not know are left out of the test."""
    for kind, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (ALONE, r"[^\s\p{L}\p{N}]")):
        assert "".join(c for c in ASSIGNED if category(c) == kind) == "".join(regex.findall(pattern, ASSIGNED))


@given(st.lists(st.text(st.sampled_from("'sa1 \t\r\xa0.")).filter(str.strip)))
def test_pieces_of_lines_are_those_of_each_line_and_its_newline(lines: list[str]) -> None:
    found = pieces("".join(f"{line}\n" for line in lines), lines=True)
    assert [found.distinct[at] for at in found.inverse] == [
        piece for line in lines for piece in [*GPT2.findall(line), "\n"]
    ]


@given(TEXTS)
def test_no_word_ends_within_a_character(text: str) -> None:
    found = words(text)
    assert [c for at in found.inverse for c in characters(found.distinct[at])] == characters(text)


def test_what_continues_a_character_is_what_unicode_says() -> None:
    assert {c for c in ASSIGNED if continues(c)} == set(MARKS)


@given(TEXTS, st.integers(0, 5))
def test_spreading_puts_the_ids_of_each_unit_where_it_stands(text: str, most: int) -> None:
    found = words(text)
    ids = [list(range(ord(unit[0]), ord(unit[0]) + len(unit) % (most + 1))) for unit in found.distinct]
    assert found.spread(ids).tolist() == [id for at in found.inverse for id in ids[at]]


def test_units_whose_hashes_fall_together_are_still_told_apart() -> None:
    """A polynomial modulo a power of two gives the Thue-Morse word and its opposite one hash, whatever its base."""
    word = "a"
    for _ in range(11):
        word += word.translate({97: 98, 98: 97})
    opposite = word.translate({97: 98, 98: 97})
    codes, starts, sizes = code_points(word + opposite + word), np.array([0, 2048, 4096]), np.full(3, 2048)
    assert len(group(codes, starts, sizes)[1]) == 3  # nobody is grouped
    found = words(f"{word} {opposite} {word}")
    assert [found.distinct[at] for at in found.inverse] == [word, " ", opposite, " ", word]
