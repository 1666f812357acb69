"""Tasks whose right answers are known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import SettingsError
from charlm.text.synthetic import FORMS, Task, dated, make, shares

Typed = Callable[..., tuple[int, str, str]]

TASKS = get_args(Task)
LETTERS = ("reverse", "sort", "copy", "repeat")
LAYOUTS = ["%d %B %Y", "%B %d, %Y", "%d %B, %Y", "%Y %B %d", "%A %d %B %Y", "%A, %B %d, %Y"]
LAYOUTS += ["%a %b %d %Y", "%b %d %Y", "%d-%b-%Y", "%d.%m.%Y", "%Y/%m/%d"]
VALUES = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
VALUES |= {"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16}
VALUES |= {"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
VALUES |= {"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "and": 0}


def days(source: str) -> set[datetime]:
    """All that a date can mean."""
    plain = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", source)
    plain = re.sub(r"\b(the|of|day) ", "", plain)
    found = set()
    for layout in LAYOUTS:
        with suppress(ValueError):
            found.add(datetime.strptime(plain, layout))
    return found


def value(words: str) -> int:
    thousands = part = 0
    for word in re.split("[ -]", words):
        if word == "thousand":
            thousands, part = part, 0
        else:
            part = part * 100 if word == "hundred" else part + VALUES[word]
    return 1000 * thousands + part


def test_letters_are_reversed_sorted_and_copied() -> None:
    for source, target in make("reverse", 500, 20, 0):
        assert target == "".join(reversed(source))
    for source, target in make("sort", 500, 20, 0):
        assert Counter(target) == Counter(source)
        assert all(a <= b for a, b in pairwise(target))
    for source, target in make("copy", 500, 20, 0):
        assert target == source


def test_a_date_means_one_day_and_that_is_the_target() -> None:
    weekdays = set()
    for source, target in make("dates", 1500, None, 0):
        [day] = days(source)
        assert target == f"{day:%Y-%m-%d}"
        assert 1900 <= day.year <= 2099
        for weekday in re.findall("[A-Z][a-z]+day|Mon |Tue |Wed |Thu |Fri |Sat |Sun ", source):
            weekdays.add(weekday)
            assert f"{day:%A}".startswith(weekday.strip())
    assert len(weekdays) == 14


def test_no_two_dates_are_written_alike_and_ordinals_are_english() -> None:
    written = [dated(form, day)[0] for form in FORMS for day in range(4 * 366)]
    assert len(set(written)) == len(written)
    usual = {f"{day}th" for day in range(4, 31)} - {"21th", "22th", "23th"}
    ordinals = {found for source in written for found in re.findall(r"\d+[a-z]+", source)}
    assert ordinals == usual | {"1st", "2nd", "3rd", "21st", "22nd", "23rd", "31st"}


def test_number_words_mean_their_digits() -> None:
    made = {target: source for source, target in make("numbers", 10_000, None, 0)}
    assert all(str(value(source)) == target for target, source in made.items())
    assert {len(target) for target in made} == {1, 2, 3, 4, 5, 6}
    assert [made[target] for target in ("0", "42", "105")] == ["zero", "forty-two", "one hundred and five"]
    for target, source in made.items():
        if len(target) > 3:
            assert ("thousand and" in source) == (0 < int(target[-3:]) < 100)


INTRODUCED = r"I am (?P<a>\w+) from (?P<b>\w+)|meet (?P<c>\w+) from (?P<d>\w+)|in (?P<f>\w+) lives (?P<e>\w+)"


def test_people_are_greeted_by_their_names_whatever_stands_first() -> None:
    for source, target in make("names", 500, None, 0):
        people = [match.groupdict() for match in re.finditer(INTRODUCED, source)]
        named = [(p["a"] or p["c"] or p["e"], p["b"] or p["d"] or p["f"]) for p in people]
        assert target == "hello " + ", ".join(f"{name} of {place}" for name, place in named)
        assert 1 <= len(people) <= 4
        assert len(source) < 128


def test_hardly_a_name_occurs_twice() -> None:
    made = [set(re.findall("[A-Z][a-z]+", target)) for _, target in make("names", 20_000, None, 0)]
    held_out, known = set().union(*made[-1000:]), set().union(*made[:-1000])
    assert len(held_out - known) > 0.95 * len(held_out)


@given(st.sampled_from(TASKS), st.integers(1, 80), st.integers(2, 30), st.integers(0, 2**63 - 1))
def test_a_task_is_so_many_different_sources_of_two_columns(task: Task, pairs: int, longest: int, seed: int) -> None:
    length = longest if task in LETTERS else None
    made = list(make(task, pairs, length, seed))
    assert made == list(make(task, pairs, length, seed))
    assert len({source for source, _ in made}) == len(made) == pairs
    assert all(column.strip() == column != "" and not set("\t\n") & set(column) for pair in made for column in pair)
    assert all(len(source) <= longest for source, _ in made if task in LETTERS)


def test_another_seed_makes_other_pairs_and_the_tasks_on_letters_share_their_sources() -> None:
    assert set(make("dates", 50, None, 0)) != set(make("dates", 50, None, 1))
    reverse, sort = (list(zip(*make(task, 50, 20, 0), strict=True)) for task in ("reverse", "sort"))
    assert reverse[0] == sort[0]


def test_every_length_is_as_frequent_as_there_are_sources_and_they_are_mixed() -> None:
    sizes = [len(source) for source, _ in make("copy", 2000, 20, 0)]
    counts = Counter(sizes)
    assert counts[1] == 26
    assert {counts[size] for size in range(2, 21)} == {103, 104}
    assert abs(sum(sizes[:500]) - sum(sizes[-500:])) < 500


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.data())
def test_shares_are_alike_as_far_as_they_can_be(sizes: list[int], data: st.DataObject) -> None:
    pairs = data.draw(st.integers(0, sum(sizes)))
    counts = shares(sizes, pairs)
    assert sum(counts) == pairs
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))
    free = [count for count, size in zip(counts, sizes, strict=True) if count < size]
    assert not free or max(counts) - min(free) <= 1


def test_all_there_is_can_be_had_and_no_more() -> None:
    assert len(set(make("copy", 26 + 26**2, 2, 0))) == 702
    with pytest.raises(
        SettingsError, match="--pairs 703 is more than the 702 different sources of copy; ask for fewer"
    ):
        make("copy", 703, 2, 0)
    with pytest.raises(SettingsError, match="--longest is for reverse, sort, copy"):
        make("dates", 1, 20, 0)


def test_repeat_is_a_text_in_which_every_line_is_a_word_twice(typed: Typed) -> None:
    code, out, _ = typed("corpus", "make", "repeat", "--pairs", "60", "--longest", "30")
    assert (code, out) == (0, "repeat.txt\nnext: charlm train repeat.txt --arch reformer\n")
    lines = Path("repeat.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"0([a-z]{1,30})0\1", line) for line in lines)
    assert len(set(lines)) == 60
    assert {len(line) // 2 - 1 for line in lines} == set(range(1, 31))


def test_a_task_becomes_a_file_and_never_replaces_one(typed: Typed) -> None:
    code, out, _ = typed("corpus", "make", "reverse", "--pairs", "50", "--longest", "9", "--seed", "3")
    assert (code, out.splitlines()[0]) == (0, "reverse.tsv")
    assert "next: charlm train reverse.tsv --arch seq2seq --attention additive --tokenizer char --minutes 3" in out
    made = Path("reverse.tsv").read_text(encoding="utf-8")
    assert [tuple(line.split("\t")) for line in made.splitlines()] == list(make("reverse", 50, 9, 3))
    assert "names.tsv --arch seq2seq --copy --share-vocab --minutes 3" in typed("corpus", "make", "names")[1]
    code, _, err = typed("corpus", "make", "reverse")
    assert (code, err.count("\n")) == (2, 1)
    assert "reverse.tsv exists already; move it away, or name another file with --out" in err
    assert Path("reverse.tsv").read_text(encoding="utf-8") == made
    assert typed("corpus", "make", "reverse", "--pairs", "50", "--out", "other.tsv")[0] == 0
    assert len(Path("other.tsv").read_text(encoding="utf-8").splitlines()) == 50
    assert "nowhere/a.tsv cannot be written" in typed("corpus", "make", "copy", "--out", "nowhere/a.tsv")[2]
    assert "--pairs must be at least 1, got 0" in typed("corpus", "make", "copy", "--pairs", "0")[2]
