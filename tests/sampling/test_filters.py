"""What may be picked."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import SettingsError
from charlm.sampling.filters import Picker, filtered, keep_min_p, keep_top_k, keep_top_p, penalise
from charlm.sampling.noise import streams
from charlm.sampling.settings import SampleSettings

SHARES = torch.tensor([[0.5, 0.25, 0.15, 0.1]])
LOGITS = SHARES.log()


def left(logits: torch.Tensor) -> list[int]:
    return logits[0].isfinite().nonzero().flatten().tolist()


def left_of(pick: Picker, logits: torch.Tensor) -> torch.Tensor:
    return filtered(pick.settings, pick.temperature, logits, pick.recent)


def picker(rows: int = 1, **settings: object) -> Picker:
    return Picker(SampleSettings(**settings), streams(0, range(rows)))  # type: ignore[arg-type]


@given(st.lists(st.lists(st.integers(-2, 2), min_size=40, max_size=40), min_size=1, max_size=4), st.integers(1, 40))
def test_of_equally_likely_tokens_those_with_the_lower_ids_come_first(rows: list[list[int]], k: int) -> None:
    """In every row; min-p keeps or drops equals together."""
    logits = torch.tensor(rows).float()
    ranked = [sorted(range(40), key=lambda id, row=row: (-row[id], id)) for row in rows]  # type: ignore[misc]
    for row, order in zip(keep_top_k(logits, k), ranked, strict=True):
        assert left(row[None]) == sorted(order[:k])
    for row, order in zip(keep_top_p(logits, k / 40), ranked, strict=True):
        kept = left(row[None])
        assert kept == sorted(order[: len(kept)])
    for row, shares in zip(keep_min_p(logits, k / 40), logits, strict=True):
        assert {float(shares[id]) for id in left(row[None])}.isdisjoint(shares[row.isneginf()].tolist())
    for settings in ({"temperature": "0"}, {"top_k": 1}, {"top_p": 0.0}):
        assert picker(**settings)(logits).tolist() == [order[0] for order in ranked]


def test_top_k_keeps_exactly_k_even_among_equals() -> None:
    assert left(keep_top_k(LOGITS, 2)) == [0, 1]
    assert len(left(keep_top_k(torch.zeros(1, 9), 3))) == 3
    assert left(keep_top_k(LOGITS, 100)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("p", "kept"), [(0.0, [0]), (0.4, [0]), (0.6, [0, 1]), (0.8, [0, 1, 2]), (1.0, [0, 1, 2, 3])])
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, kept: list[int]) -> None:
    assert left(keep_top_p(LOGITS, p)) == kept


@pytest.mark.parametrize(("p", "kept"), [(0.0, [0, 1, 2, 3]), (0.25, [0, 1, 2]), (0.4, [0, 1]), (1.0, [0])])
def test_min_p_is_a_share_of_the_likeliest(p: float, kept: list[int]) -> None:
    assert left(keep_min_p(LOGITS, p)) == kept


def test_the_penalty_makes_recent_tokens_less_likely_whatever_their_sign() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    assert penalise(logits, torch.tensor([[0, 1, 0]]), 2.0).tolist() == [[1.0, -4.0, 1.0]]


def test_temperature_0_takes_the_most_likely() -> None:
    pick = picker(temperature="0")
    assert [int(pick(LOGITS)) for _ in range(20)] == [0] * 20


def test_temperature_is_a_power_of_the_shares() -> None:
    shares = left_of(picker(temperature="0.5"), LOGITS).softmax(-1)
    torch.testing.assert_close(shares, SHARES**2 / (SHARES**2).sum())


def test_a_list_of_temperatures_is_cycled_per_token() -> None:
    pick = picker(temperature="0,1000")
    flat = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    picked = [int(pick(flat)) for _ in range(200)]
    assert set(picked[::2]) == {0}
    assert set(picked[1::2]) == {0, 1, 2, 3}


def test_frequencies_follow_the_shares() -> None:
    pick = picker(20_000, temperature="1")
    counts = torch.bincount(pick(LOGITS.expand(20_000, 4)), minlength=4) / 20_000
    torch.testing.assert_close(counts, SHARES[0], atol=0.02, rtol=0)


def test_the_filters_work_in_the_documented_order() -> None:
    """Penalty, temperature, top-k, top-p, min-p: here every other order would keep other tokens."""
    logits = torch.tensor([[0.40, 0.30, 0.20, 0.10]]).log()
    pick = picker(temperature="0.5", top_k=3, top_p=0.8)
    # squares .16 .09 .04 .01 -> of the three largest: .55 .31 .14; two of them make up 0.8. Without the temperature
    # first it would take three (.44 + .33 < .8); with top-p before top-k, two also, but of .53 + .30.
    assert left(left_of(pick, logits)) == [0, 1]
    assert left(left_of(picker(temperature="1", top_k=3, top_p=0.8), logits)) == [0, 1, 2]


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=30),
    st.floats(1e-3, 1000),
    st.integers(0, 40),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.01, 100),
)
def test_no_mixture_of_filters_leaves_nothing_to_pick(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    settings = SampleSettings(f"{temperature:.4f}", top_k, top_p, min_p, penalty)
    pick = Picker(settings, streams(0, [0]))
    for _ in range(3):
        assert 0 <= int(pick(torch.tensor([logits]))) < len(logits)
    assert not math.isnan(float(left_of(pick, torch.tensor([logits])).softmax(-1).sum()))


@pytest.mark.parametrize("bad", ["-1", "warm", "", "0.5,", "nan", "inf", "2000"])
def test_what_is_no_temperature_is_refused(bad: str) -> None:
    with pytest.raises(SettingsError, match="--temperature must be a number from 0 to 1000"):
        SampleSettings(bad)
