"""Batches of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from charlm.config import PAD
from charlm.text.buckets import Buckets, EncodedLines, PairBatch

NEWLINE = 0


def lines(sizes: list[int], first: int) -> EncodedLines:
    """Line n is the id `first + n`, repeated, and a newline."""
    ids = np.concatenate([[first + n] * size + [NEWLINE] for n, size in enumerate(sizes)]).astype(np.uint16)
    return EncodedLines(ids, np.concatenate([[0], np.cumsum(np.array(sizes) + 1)]))


RNG = np.random.default_rng(0)
SOURCE = lines(RNG.integers(1, 12, 100).tolist(), 1)
TARGET = lines(RNG.integers(1, 12, 100).tolist(), 201)


def epoch(made: Buckets, number: int) -> list[PairBatch]:
    return [made.batch(number * made.per_epoch + index)[0] for index in range(made.per_epoch)]


def test_an_epoch_shows_every_pair_once_and_never_apart() -> None:
    seen = []
    for source, target in epoch(Buckets.of_pairs(SOURCE, TARGET, batch_tokens=64, seed=0), 0):
        assert (target[:, 1] - source[:, 0] == 200).all()
        seen += source[:, 0].tolist()
    assert sorted(seen) == list(range(1, 101))


def test_a_row_is_its_line_between_newlines_and_then_padding() -> None:
    source, target = Buckets.of_pairs(SOURCE, TARGET, batch_tokens=64, seed=0).batch(3)[0]
    for read, written in zip(source, target, strict=True):
        pair = read[0] - 1
        assert read[read != PAD].tolist() == SOURCE[pair].tolist()
        assert written[written != PAD].tolist() == [NEWLINE, *TARGET[pair]]
        assert (np.diff((written == PAD).astype(int)) >= 0).all()


@pytest.mark.parametrize("batch_tokens", [1, 20, 64, 5000])
def test_no_batch_holds_more_tokens_than_asked_for_unless_a_single_pair_does(batch_tokens: int) -> None:
    for source, target in epoch(Buckets.of_pairs(SOURCE, TARGET, batch_tokens=batch_tokens, seed=0), 0):
        assert len(source) == 1 or len(source) * max(source.shape[1], target.shape[1] - 1) <= batch_tokens


def test_little_is_padding() -> None:
    batches = epoch(Buckets.of_pairs(SOURCE, SOURCE, batch_tokens=64, seed=0), 0)
    assert sum((source == PAD).sum() for source, _ in batches) < 0.05 * len(SOURCE.ids)


def test_epochs_differ_and_a_batch_depends_on_its_number_alone() -> None:
    made, again = (Buckets.of_pairs(SOURCE, TARGET, batch_tokens=64, seed=0) for _ in range(2))
    first, second = ([tuple(rows.source[:, 0]) for rows in epoch(made, n)] for n in (0, 1))
    assert set(first) != set(second)
    assert made.per_epoch == again.per_epoch
    for number in (2 * made.per_epoch, 3, made.per_epoch + 1):
        assert all((a == b).all() for a, b in zip(made.batch(number)[0], again.batch(number)[0], strict=True))


def test_a_part_is_its_lines() -> None:
    part = SOURCE.where(np.arange(100) % 10 == 3)
    assert [part[n].tolist() for n in range(10)] == [SOURCE[n].tolist() for n in range(3, 100, 10)]
    assert len(part) == len(part.sizes) == 10
