"""Every draw is a function of its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import charlm
from charlm.sampling.filters import Picker
from charlm.sampling.noise import INCREMENT, branch, gumbel, mixed, streams
from charlm.sampling.settings import Request, SampleSettings
from charlm.sampling.shared import key

Typed = Callable[..., tuple[int, str, str]]
PLAIN = torch.arange(50_000) * INCREMENT


def test_the_bits_are_those_of_splitmix64() -> None:
    """The first three of seed 1234567, from the reference implementation in C."""
    states = torch.tensor(1234567) + torch.arange(1, 4) * INCREMENT
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [bits % 2**64 for bits in mixed(states).tolist()] == expected


@pytest.mark.parametrize("keys", [PLAIN, torch.tensor([key(b"%d" % n) for n in range(50_000)])], ids=["ids", "bytes"])
def test_the_noise_differs_by_place_by_row_by_seed_and_by_token_and_is_gumbel(keys: torch.Tensor) -> None:
    def drawn(seed: int, row: int, place: int) -> np.ndarray:
        return gumbel(branch(streams(seed, [row]), torch.tensor(place)), keys)[0].double().numpy()

    noise = drawn(1, 0, 0)
    for other in (drawn(2, 0, 0), drawn(1, 1, 0), drawn(1, 0, 1), drawn(0, 1, 0), np.roll(noise, 1)):
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.02
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.05)
    sizes = np.sort(noise)
    expected = np.exp(-np.exp(-sizes))
    assert np.abs(expected - np.linspace(0, 1, len(sizes))).max() < 0.01  # Kolmogorov and Smirnov's distance


def test_noise_is_never_infinite() -> None:
    """What the two extreme mixtures give: a token must not win, nor lose, against everything."""
    unmixed = torch.tensor([0, -1])  # 0 is mixed into 0
    assert gumbel(unmixed, torch.tensor([0])).isfinite().all()
    assert gumbel(streams(0, range(2000)), torch.arange(500) * INCREMENT).isfinite().all()


@pytest.mark.parametrize("temperature", ["1", "0,1.5", "2,0.5,0"])
@pytest.mark.parametrize("filters", [{}, {"top_k": 5, "repetition_penalty": 1.5}])
def test_a_row_does_not_depend_on_its_company(temperature: str, filters: dict[str, float]) -> None:
    settings = SampleSettings(temperature, **filters)  # type: ignore[arg-type]
    guesses = torch.randn(700, 1, 40, generator=torch.Generator().manual_seed(0))

    def write(*rows: int) -> torch.Tensor:
        pick = Picker(settings, streams(4, rows))
        return torch.stack([pick(guess.expand(len(rows), -1)) for guess in guesses], 1)  # (B, T)

    whole = write(*range(30))
    for row in (0, 1, 29):
        assert torch.equal(write(row)[0], whole[row])
    assert torch.equal(write(7, 3), whole[[7, 3]])
    assert len({tuple(row) for row in whole.tolist()}) == 30


def test_the_first_of_several_texts_is_the_one_text_of_the_seed(typed: Typed, trained: Path) -> None:
    def texts(samples: int, seed: int) -> list[str]:
        words = ["--length", "40", "--temperature", "1", "--samples", samples, "--seed", seed, "--json"]
        return [json.loads(line)["text"] for line in typed("sample", trained, *words)[1].strip().split("\n")]

    for seed in (4, 2**63 - 1):
        assert texts(3, seed)[:1] == texts(1, seed)
        assert len(set(texts(3, seed))) == 3
    assert texts(1, 4) != texts(1, 5)


def test_row_and_seed_are_all_that_a_text_depends_on(trained: Path) -> None:
    def rows(samples: int) -> list[str]:
        pieces = charlm.load(trained).pieces(Request("1", prompt="PEG", length=30, samples=samples, seed=9))
        return ["".join(texts) for texts in zip(*(piece.texts for piece in pieces), strict=True)]

    assert rows(2) == rows(5)[:2]
