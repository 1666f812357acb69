"""What the measurements count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from charlm.model import Output


def test_of_the_copy_task_second_halves_are_scored_whole_and_letter_by_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    from bench.repeat import ZERO, lines, score

    words = lines(5, 7, torch.Generator().manual_seed(0))
    assert (words[:, 0] == ZERO).all()
    assert torch.equal(words[:, :8], words[:, 8:])

    def copier(text: torch.Tensor, forgets: bool = False) -> Output:
        """Guesses what stood 8 places before the next token, and z for a first letter m."""
        guesses = torch.cat([text[:, :7], text[:, : text.size(1) - 7]], 1)
        guesses[:, 8][(guesses[:, 8] == 12) & forgets] = 25
        return Output(torch.nn.functional.one_hot(guesses, ZERO + 1).float(), ())

    assert score(copier, 7) == (1, 1)
    exact, right = score(lambda text: copier(text, forgets=True), 7)
    assert 1 - exact == pytest.approx(1 / 26, abs=0.02)
    assert 1 - right == pytest.approx((1 - exact) / 7, rel=1e-4)
