"""Stop strings in a stream."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from charlm.sampling.stream import Until, until_stop

PIECES = st.lists(st.text("ab\n", max_size=3), max_size=20)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@given(PIECES, STOPS)
@example(["\n", "a", "a"], ["a", "\naa"])  # a stop that begins earlier ends later
def test_the_stream_is_the_text_before_the_first_stop_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    ends = [text.index(stop) for stop in stops if stop in text]
    assert "".join(until_stop(pieces, stops)) == text[: min(ends, default=len(text))]


def test_what_may_be_the_start_of_a_stop_is_held_back_until_it_is_decided() -> None:
    until = Until(["THE END"])
    assert until.feed("so it was. THE") == "so it was. "
    assert until.feed(" E") == ""
    assert until.feed("GGS") == "THE EGGS"
    assert until.feed(" THE END and more") == " "
    assert until.done


def test_without_a_stop_everything_passes_at_once() -> None:
    assert list(until_stop(["a", "", "b"], [])) == ["a", "", "b"]
