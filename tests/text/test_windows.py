"""Windows over a text."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from charlm.config import PAD
from charlm.errors import CorpusError
from charlm.text.windows import Windows

IDS = np.arange(1000, dtype=np.uint16)


def windows(ids: np.ndarray = IDS, **changes: object) -> Windows:
    return Windows(ids, **{"batch_size": 4, "seq_len": 16, "order": "stream", "seed": 0, **changes})  # type: ignore[arg-type]


def test_each_row_continues_the_same_row_of_the_batch_before() -> None:
    made = windows()
    for number in range(1, made.per_epoch):
        (before,), (now,) = made.batch(number - 1)[0], made.batch(number)[0]
        assert before.shape == now.shape == (4, 17)
        assert (now[:, 0] == before[:, -1]).all()
        assert not made.batch(number)[1]


def texts(made: Windows, epoch: int = 0) -> list[list[int]]:
    """What the rows of an epoch are to guess, one after the other."""
    batches = [made.batch(epoch * made.per_epoch + n)[0][0][:, 1:] for n in range(made.per_epoch)]
    return [row[row != PAD].tolist() for row in np.concatenate(batches, 1)]


SIZES = {"size": st.integers(3, 200), "batch_size": st.integers(1, 30), "seq_len": st.integers(2, 64)}


@given(**SIZES, epoch=st.integers(0, 3))
def test_an_epoch_shows_every_token_once_as_a_target(size: int, batch_size: int, seq_len: int, epoch: int) -> None:
    made = windows(IDS[:size], batch_size=batch_size, seq_len=seq_len)
    assert sorted(chain(*texts(made, epoch))) == list(range(size))
    assert made.epoch_tokens == size


@given(**SIZES, other=st.integers(2, 64), epoch=st.integers(0, 3))
def test_windows_of_any_length_show_the_same_text_in_the_same_order(
    size: int, batch_size: int, seq_len: int, other: int, epoch: int
) -> None:
    short, long = (windows(IDS[:size], batch_size=batch_size, seq_len=length) for length in (seq_len, other))
    assume(short.batch_size == long.batch_size)
    assert texts(short, epoch) == texts(long, epoch)


@given(**SIZES)
def test_padding_ends_the_last_windows_of_an_epoch_alone(size: int, batch_size: int, seq_len: int) -> None:
    made = windows(IDS[:size], batch_size=batch_size, seq_len=seq_len)
    for number in range(made.per_epoch - 1):
        assert (made.batch(number)[0][0] != PAD).all()
    padded = made.batch(made.per_epoch - 1)[0][0] == PAD
    assert (np.diff(padded.astype(int)) >= 0).all()
    assert not padded[:, 0].any()
    assert padded.sum(1).max() - padded.sum(1).min() <= 1
    assert not padded[:, 1].all()


def test_every_epoch_is_cut_at_another_place_and_starts_anew() -> None:
    made = windows()
    first, second = made.batch(0), made.batch(made.per_epoch)
    assert first[1] is True
    assert second[1] is True
    assert (first[0][0] != second[0][0]).all()


def test_random_order_reaches_the_first_and_the_last_token_and_no_further() -> None:
    made = windows(IDS[:18], order="random")
    rows = np.concatenate([made.batch(n)[0][0] for n in range(50)])
    assert {int(row[0]) for row in rows} == {0, 1}
    assert rows.max() == 17


@given(**SIZES, order=st.sampled_from(["stream", "random"]))
def test_any_text_of_three_tokens_or_more_gives_whole_batches(
    size: int, batch_size: int, seq_len: int, order: str
) -> None:
    made = windows(IDS[:size], batch_size=batch_size, seq_len=seq_len, order=order)
    for number in (0, 1, made.per_epoch, 7 * made.per_epoch + 1):
        (batch,), _ = made.batch(number)
        assert batch.shape == (made.batch_size, made.seq_len + 1)
        following = (batch[:, :-1] + 1) % size
        assert ((batch[:, 1:] == following) | (batch[:, 1:] == PAD)).all()


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_text_too_short_to_learn_from_is_refused_with_its_size(size: int) -> None:
    with pytest.raises(CorpusError, match=f"holds {size} tokens; it needs 3"):
        windows(IDS[:size])
