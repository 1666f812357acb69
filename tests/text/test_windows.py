"""Windows over a text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import CorpusError
from charlm.text.windows import Windows

IDS = np.arange(1000, dtype=np.uint16)


def windows(ids: np.ndarray = IDS, **changes: object) -> Windows:
    return Windows(ids, **{"batch_size": 4, "seq_len": 16, "order": "stream", "seed": 0, **changes})  # type: ignore[arg-type]


def test_each_row_continues_the_same_row_of_the_batch_before() -> None:
    made = windows()
    for number in range(1, made.per_epoch):
        before, now = made.batch(number - 1)[0], made.batch(number)[0]
        assert (now[:, 0] == before[:, -1]).all()
        assert not made.batch(number)[1]


def test_an_epoch_shows_nearly_every_token_once_as_a_target() -> None:
    made = windows()
    targets = np.concatenate([made.batch(n)[0][:, 1:].ravel() for n in range(made.per_epoch)])
    assert len(targets) == len(set(targets)) >= 1000 - 4 * 16


def test_every_epoch_is_cut_at_another_place_and_starts_anew() -> None:
    made = windows()
    first, second = made.batch(0), made.batch(made.per_epoch)
    assert first[1] is True
    assert second[1] is True
    assert (first[0] != second[0]).all()


def test_the_text_is_a_ring_so_that_no_end_is_left_out() -> None:
    made = windows()
    seen = {int(t) for n in range(5 * made.per_epoch) for t in made.batch(n)[0][:, 1:].ravel()}
    assert seen == set(range(1000))


def test_random_order_reaches_the_first_and_the_last_token_and_no_further() -> None:
    made = windows(IDS[:18], order="random")
    rows = np.concatenate([made.batch(n)[0] for n in range(50)])
    assert {int(row[0]) for row in rows} == {0, 1}
    assert rows.max() == 17


@given(
    size=st.integers(3, 200),
    batch_size=st.integers(1, 30),
    seq_len=st.integers(2, 64),
    order=st.sampled_from(["stream", "random"]),
)
def test_any_text_of_three_tokens_or_more_gives_whole_batches(
    size: int, batch_size: int, seq_len: int, order: str
) -> None:
    made = windows(IDS[:size], batch_size=batch_size, seq_len=seq_len, order=order)
    for number in (0, 1, made.per_epoch, 7 * made.per_epoch + 1):
        batch, _ = made.batch(number)
        assert batch.shape == (made.batch_size, made.seq_len + 1)
        following = (batch[:, :-1] + 1) % size
        assert (batch[:, 1:] == following).all()


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_text_too_short_to_learn_from_is_refused_with_its_size(size: int) -> None:
    with pytest.raises(CorpusError, match=f"holds {size} tokens; it needs 3"):
        windows(IDS[:size])
