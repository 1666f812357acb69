"""What of a text stands in the training text, word for word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import VERSES

from charlm import scoring
from charlm.inside.novelty import matches, novelty
from charlm.progress import result
from charlm.runs import folder

Typed = Callable[..., tuple[int, str, str]]


@given(st.text("ab\n", max_size=25), st.text("abc\n", max_size=60))
def test_each_match_is_the_longest_that_there_is_and_stands_where_it_says(text: str, known: str) -> None:
    lengths, ends = result(matches(text, known))
    for at in range(len(text)):
        longest = max(size for size in range(at + 2) if text[at + 1 - size : at + 1] in known)
        assert lengths[at] == longest
        if longest:
            assert known[: ends[at] + 1].endswith(text[at + 1 - longest : at + 1])


def test_a_copy_is_found_with_its_place_and_coloured_to_its_ends() -> None:
    passage = "the tide is in, and I am wet"
    found = result(novelty(f"9{passage}7", VERSES, "0123456789" * 9))
    assert found.longest.text == passage
    assert found.longest.at == 1
    assert VERSES[found.longest.known_at :].startswith(passage)
    assert found.copied.tolist() == [0, *[len(passage)] * len(passage), 0]
    assert found.shares == {4: 25 / 27, 8: 21 / 23, 12: 17 / 19, 16: 13 / 15, 24: 5 / 7}
    assert set(found.held_out.values()) == {0.0}


def test_a_text_from_the_training_text_is_all_copied_and_a_strange_one_not_at_all() -> None:
    copy, strange = result(novelty(VERSES[100:300], VERSES, "")), result(novelty("xyz" * 30, VERSES, ""))
    assert set(copy.shares.values()) == {1.0}
    assert copy.held_out == {}
    assert set(strange.shares.values()) == {0.0}


def test_nothing_is_found_across_the_border_to_the_held_out_text() -> None:
    found = result(novelty(VERSES[:40], VERSES, VERSES[40:80]))
    assert len(found.longest.text) == found.longest_held_out == 40


def test_the_end_of_a_long_training_text_is_searched_and_lines_are_counted_from_its_start(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = result(scoring.training_text(folder.info(trained)))
    assert VERSES.startswith(whole.text)
    assert VERSES[len(whole.text) :].startswith(whole.held_out)
    assert (whole.chars_before, whole.lines_before) == (0, 0)
    monkeypatch.setattr(scoring, "SEARCHED", 1000)
    monkeypatch.setattr(scoring, "DECODED", 300)
    end = result(scoring.training_text(folder.info(trained)))
    assert whole.text.endswith(end.text)
    assert len(end.text) == 1000
    assert end.chars_before == len(whole.text) - 1000
    assert end.lines_before == whole.text[:-1000].count("\n")


def test_on_the_command_line(typed: Typed, parrot: Path) -> None:
    code, out, err = typed("novelty", parrot, "--length", "300", "--temperature", "0.5", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert len(said["text"]) == len(said["copied"]) == 300
    assert said["shares"]["32"] > 0.3  # it knows its text by heart
    longest = said["longest"]
    assert VERSES[longest["known_at"] :].startswith(longest["text"])
    assert said["text"][longest["at"] :].startswith(longest["text"])
    assert longest["line"] == VERSES[: longest["known_at"]].count("\n") + 1
    assert typed("novelty", parrot, "--length", "300", "--temperature", "0.5", "--json")[1] == out
    code, out, _ = typed("novelty", parrot, "--length", "300", "--temperature", "0.5", "--html", "seen.html")
    assert code == 0
    assert "longest copy" in out
    assert said["text"][:40].strip() in out
    assert "longest copy" in Path("seen.html").read_text(encoding="utf-8")


def test_a_text_may_be_looked_at_instead_of_a_sample(typed: Typed, trained: Path) -> None:
    Path("mine.txt").write_text("0123456789 " * 20)
    code, out, _ = typed("novelty", trained, "--text", "mine.txt", "--json")
    assert code == 0
    assert set(json.loads(out)["shares"].values()) == {0.0}
    Path("empty.txt").write_text("")
    assert (
        "empty.txt holds 0 characters; name a text of 1 to 1,000,000"
        in typed("novelty", trained, "--text", "empty.txt")[2]
    )
