"""Showing text to a model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from charlm import objectives
from charlm.config import DataSpec, Lengths
from charlm.model import PAD
from charlm.objectives._base import Batch, summed_nats

SPEC = DataSpec(11, Lengths.of_text(8))


def shown(objective: str, *rows: Tensor) -> Batch:
    return objectives.load(objective)().batch(rows, SPEC, torch.default_generator)


def test_causal_asks_for_the_next_token_at_every_place() -> None:
    batch = shown("causal", torch.arange(9)[None])
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert batch.targets.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert batch.source is None


def test_continuation_gives_the_first_half_to_read_and_asks_for_the_rest() -> None:
    torch.manual_seed(0)
    seen = set()
    for _ in range(200):
        batch = shown("continuation", torch.arange(9)[None])
        assert batch.tokens.tolist() == [[4, 5, 6, 7]]
        assert batch.targets.tolist() == [[5, 6, 7, 8]]
        assert batch.source is not None
        read = batch.source[0].tolist()
        assert read == [0, 1, 2, 3][4 - len(read) :]
        seen.add(len(read))
    assert seen == {0, 1, 2, 3, 4}  # mostly the whole half, now and then less: a short prompt must be familiar too


def test_what_lies_behind_the_end_of_a_row_is_fed_but_never_asked_for() -> None:
    windows = torch.tensor([[4, 5, 6, 7, PAD, PAD], [1, 2, 3, PAD, PAD, PAD]])
    batch = shown("causal", windows)
    assert batch.tokens.tolist() == [[4, 5, 6, 7, 0], [1, 2, 3, 0, 0]]
    assert batch.targets.tolist() == [[5, 6, 7, PAD, PAD], [2, 3, PAD, PAD, PAD]]


@pytest.mark.parametrize("columns", [2, 3, 4, 5, 8])
def test_continuation_asks_for_the_second_half_of_what_a_short_row_has(columns: int) -> None:
    windows = torch.cat([torch.arange(columns)[None], torch.full((1, 9 - columns), PAD)], 1).repeat(2, 1)
    windows[1, columns - 1] = PAD  # a row may be shorter by one
    for _ in range(20):
        batch = shown("continuation", windows)
        half = (columns - 1) // 2
        assert batch.tokens[0].tolist() == list(range(half, columns - 1))
        assert batch.targets.tolist()[0] == list(range(half + 1, columns))
        assert batch.targets.tolist()[1] == [*range(half + 1, columns - 1), PAD]
        assert batch.source is not None
        assert (batch.source != PAD).all()
        assert batch.source.size(1) <= half


def test_pairs_are_fed_the_newline_before_and_asked_for_the_one_at_the_end() -> None:
    source, target = torch.tensor([[5, 6, 0], [7, 0, PAD]]), torch.tensor([[0, 8, 9, 0], [0, 4, 0, PAD]])
    batch = shown("pairs", source, target)
    assert batch.source is source
    assert batch.tokens.tolist() == [[0, 8, 9], [0, 4, 0]]
    assert batch.targets.tolist() == [[8, 9, 0], [4, 0, PAD]]


def test_smoothing_gives_a_share_of_each_targets_weight_to_all_tokens_alike() -> None:
    logits, targets = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    targets[1, 3:] = PAD
    nats = -logits.log_softmax(-1)[targets != PAD]  # (scored, V)
    own = nats.gather(1, targets[targets != PAD][:, None])[:, 0]
    expected = (0.9 * own + 0.1 * nats.mean(1)).sum()
    torch.testing.assert_close(summed_nats(logits, targets, 0.1), expected)


def test_padding_is_not_scored() -> None:
    logits, targets = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    partly = targets.clone()
    partly[:, 3:] = PAD
    torch.testing.assert_close(summed_nats(logits, partly), summed_nats(logits[:, :3], targets[:, :3]))
