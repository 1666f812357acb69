"""Vectors of words: pairs of near tokens, noise, and what one step of skip-gram changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from charlm import archs, objectives
from charlm.config import DataSpec, Lengths
from charlm.model import PAD
from charlm.objectives._base import Batch
from charlm.objectives.skipgram import Skipgram, drawn
from charlm.progress import result
from charlm.text.store import Split

Typed = Callable[..., tuple[int, str, str]]

SPEC = DataSpec(7, Lengths.of_text(16))


def network(spec: DataSpec = SPEC, size: int = 5) -> torch.nn.Module:
    torch.manual_seed(0)
    kind = archs.load("word2vec")
    model = kind(kind.Config(hidden_size=size), spec)  # type: ignore[call-arg]
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.embed.weight)
    return model


def pairs(windows: Tensor, counts: np.ndarray | None = None, **settings: float) -> list[tuple[int, int]]:
    """(token, what stands near it) as they are shown."""
    goal = Skipgram(**{"subsample": 0.0, **settings})
    batch = goal.batch((windows,), SPEC._replace(counts=counts), torch.Generator().manual_seed(0))
    real = batch.targets[:, 0] != PAD
    return list(zip(batch.tokens[real, 0].tolist(), batch.targets[real, 0].tolist(), strict=True))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_one_step_moves_vectors_as_the_papers_equation_says() -> None:
    """The gradient of equation 4, by hand: each pair pulls its two vectors together and pushes noise away."""
    model = network()
    v, u = (w.detach().double().numpy() for w in (model.embed.weight, model.head.weight))  # type: ignore[union-attr, operator]
    tokens, targets = torch.tensor([[1, 3, 3], [4, 0, 6], [1, 2, 5]]), torch.tensor([[2], [4], [PAD]])
    loss = Skipgram(negative=2).loss(model, Batch(tokens, targets), ())
    loss.nats.backward()
    nats, dv, du = 0.0, np.zeros_like(v), np.zeros_like(u)
    for word, near, noise in [(1, 2, (3, 3)), (4, 4, (0, 6))]:
        nats -= math.log(sigmoid(u[near] @ v[word]))
        dv[word] += (sigmoid(u[near] @ v[word]) - 1) * u[near]
        du[near] += (sigmoid(u[near] @ v[word]) - 1) * v[word]
        for other in noise:
            nats -= math.log(sigmoid(-u[other] @ v[word]))
            dv[word] += sigmoid(u[other] @ v[word]) * u[other]
            du[other] += sigmoid(u[other] @ v[word]) * v[word]
    assert float(loss.nats.detach()) == pytest.approx(nats, rel=1e-5)
    np.testing.assert_allclose(model.embed.weight.grad, dv, atol=1e-5)  # type: ignore[union-attr, arg-type]
    np.testing.assert_allclose(model.head.weight.grad, du, atol=1e-5)  # type: ignore[union-attr, arg-type]


def test_tokens_are_paired_with_both_neighbours_and_never_across_rows_or_padding() -> None:
    shown = pairs(torch.tensor([[0, 1, 2], [3, 4, PAD]]), window=1)
    assert sorted(shown) == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]
    assert pairs(torch.tensor([[5], [6]]), window=3) == []


def test_the_farther_the_rarer_and_never_beyond_the_window() -> None:
    """The window that is drawn for a token has each size alike: a distance d is within (c + 1 - d) / c of them."""
    text = torch.arange(7).repeat(1, 3000)[:, :20_000]  # 7 tokens in a circle: up to 3 the distance is seen in a pair
    shown = np.array(pairs(text, window=3))
    distance = (shown[:, 1] - shown[:, 0]) % 7
    share = np.bincount(np.minimum(distance, 7 - distance), minlength=4)[1:] / (2 * text.numel())
    np.testing.assert_allclose(share, [1, 2 / 3, 1 / 3], atol=0.02)


def test_frequent_tokens_are_left_out_and_windows_reach_over_them() -> None:
    counts = np.array([10**9, 1, 1, 1, 1, 1, 1])
    text = torch.tensor([[1, 0, 0, 2, 0, 3]])
    assert sorted(pairs(text, counts, window=1, subsample=1e-9)) == [(1, 2), (2, 1), (2, 3), (3, 2)]


def test_a_token_stays_as_often_as_the_authors_code_keeps_it() -> None:
    counts = torch.tensor([500.0, 100.0, 10.0, 1.0, 0.0])
    f = counts.numpy() / counts.sum().item()
    t = 1e-2
    expected = (np.sqrt(f[:4] / t) + 1) * t / f[:4]
    np.testing.assert_allclose(Skipgram(subsample=t).shares(counts)[:4], expected, rtol=1e-5)
    assert (Skipgram(subsample=0.0).shares(counts) == 1).all()


def test_noise_is_drawn_by_the_counts_to_the_power_of_three_quarters() -> None:
    counts = torch.tensor([81.0, 16.0, 0.0, 1.0])
    noise = drawn(counts, (20_000, 2), torch.Generator().manual_seed(0))
    np.testing.assert_allclose(
        np.bincount(noise.flatten(), minlength=4) / 40_000, np.array([27, 8, 0, 1]) / 36, atol=0.01
    )


def test_batches_have_few_shapes() -> None:
    rng = torch.Generator().manual_seed(0)
    text = torch.randint(7, (4, 200), generator=rng)
    shapes = {Skipgram(subsample=0.1).batch((text,), SPEC, rng).tokens.shape for _ in range(20)}
    assert len(shapes) <= 2


def test_a_score_is_of_the_text_alone_and_of_what_the_vectors_know() -> None:
    """Drawn alike at each call and whatever the training's options are; who knows nothing pays six coin tosses."""
    ids = np.tile(np.arange(7), 500).astype(np.uint8)
    part = Split(ids, ids[:1], 3500, 3500)
    model = network()
    first = result(Skipgram().score(model, part))
    assert first == result(Skipgram(window=2, negative=9, subsample=0.5).score(model, part))
    assert first.measure.name == "nats_per_pair"
    torch.nn.init.zeros_(model.head.weight)  # type: ignore[union-attr, arg-type]
    assert result(Skipgram().score(model, part)).value == pytest.approx(6 * math.log(2), rel=1e-5)


def test_a_fresh_one_starts_as_the_authors_code_does() -> None:
    kind = archs.load("word2vec")
    model = kind(kind.Config(hidden_size=50), SPEC)  # type: ignore[call-arg]
    assert model.embed.weight.abs().max() <= 0.01  # type: ignore[union-attr, operator]
    assert not model.head.weight.any()  # type: ignore[union-attr, operator]


def test_it_alone_learns_from_pairs_of_near_tokens() -> None:
    suited = [arch for arch in archs.names() if "skipgram" in objectives.suitable("text", archs.load(arch))]
    assert suited == ["word2vec"]


def test_it_is_never_ranked_with_what_guesses_each_byte(verses: Path, typed: Typed) -> None:
    code, _, why = typed("compare", verses, "--arch", "word2vec,lstm", "--epochs", "1")
    assert code == 2
    assert "nats/pair" in why
    assert "bits/byte" in why


def test_it_is_not_ranked_across_vocabularies(verses: Path, typed: Typed) -> None:
    code, _, why = typed("compare", verses, "--arch", "word2vec,word2vec:vocab_size=400", "--epochs", "1")
    assert code == 2
    assert "nats per pair depend on what a token is" in why
