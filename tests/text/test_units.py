"""A text cut into units."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.text.units import Units, alike, code_points, phrases, words

ODD = "[\0\u2581\ud800-\udfff]"
RULES = [
    (words, re.compile(r"\w+| +|\n+|\t+|.", re.DOTALL)),
    (phrases, re.compile(rf"{ODD}+| *[^ \n\0\u2581\ud800-\udfff]+|\n+| +")),
]
TEXTS = st.text(st.sampled_from("ab_1é中٣  \n\n\t\r.,-\0\u2581\ud800\U0001f600"), max_size=40) | st.text(max_size=40)

every_rule = pytest.mark.parametrize(("cut", "pattern"), RULES, ids=["words", "phrases"])


@every_rule
@given(text=TEXTS)
def test_units_are_those_of_a_regular_expression(
    cut: Callable[[str], Units], pattern: re.Pattern[str], text: str
) -> None:
    found = cut(text)
    assert [found.distinct[at] for at in found.which] == pattern.findall(text)
    assert len(set(found.distinct)) == len(found.distinct)


@given(TEXTS, st.integers(0, 5))
def test_spreading_puts_the_ids_of_each_unit_where_it_stands(text: str, most: int) -> None:
    found = words(text)
    ids = [list(range(ord(unit[0]), ord(unit[0]) + len(unit) % (most + 1))) for unit in found.distinct]
    assert found.spread(ids).tolist() == [id for at in found.which for id in ids[at]]


def test_units_whose_hashes_fall_together_are_still_told_apart() -> None:
    """A polynomial modulo a power of two gives the Thue-Morse word and its opposite one hash, whatever its base."""
    word = "a"
    for _ in range(11):
        word += word.translate({97: 98, 98: 97})
    opposite = word.translate({97: 98, 98: 97})
    codes, starts, sizes = code_points(word + opposite + word), np.array([0, 2048, 4096]), np.full(3, 2048)
    assert len(alike(codes, starts, sizes)[1]) == 3  # nobody is grouped
    found = words(f"{word} {opposite} {word}")
    assert [found.distinct[at] for at in found.which] == [word, " ", opposite, " ", word]
