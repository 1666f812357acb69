"""Experts against the Switch layer of `transformers`, and what the paper says of load, capacity and balance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from charlm.archs._blocks import BlockConfig
from charlm.archs._experts import Experts, Router
from charlm.archs._graph import GraphStepper
from charlm.archs._numpy import TransformerStepper
from charlm.config import DataSpec, Lengths, TrainSettings
from charlm.errors import SettingsError
from charlm.model import PAD, Features, joined, parameter_count
from charlm.objectives.causal import Causal
from charlm.plan import Plan
from charlm.quantize import Int8Linear, quantize
from charlm.text.windows import Windows
from charlm.training.loop import Trainer
from charlm.training.optim import build_optimizers
from charlm.training.world import World
from charlm.work import multiply_adds

SPEC = DataSpec(29, Lengths.of_text(24))
SMALL = {"arch": "transformer", "hidden_size": 32, "layers": 4, "heads": 2}
D, N = 16, 4


def build(**settings: Any) -> Any:
    torch.manual_seed(0)
    model = Plan.of({**SMALL, "experts": N, **settings}).build(SPEC).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def tokens(rows: int, length: int) -> Tensor:
    return torch.randint(SPEC.vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the router's noise."""
    monkeypatch.setattr("charlm.archs._experts.JITTER", 0.0)


def layer(capacity_factor: float = 1.25, **settings: Any) -> Experts:
    torch.manual_seed(0)
    c = BlockConfig(hidden_size=D, activation="relu", **settings)
    return Experts(c, N, capacity_factor=capacity_factor, balance=0.01)


def by_hand(experts: Experts, x: Tensor, capacity: int) -> Tensor:
    """Token by token, as the paper says it."""
    y = torch.zeros_like(x)
    for b, row in enumerate(x):
        given = [0] * N
        for t, token in enumerate(row):
            share = (experts.router.weight @ token).softmax(-1)
            i = int(share.argmax())
            given[i] += 1
            if given[i] <= capacity:
                y[b, t] = share[i] * experts.experts[i](token)
    return y


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(("factor", "capacity"), [(1.25, 4), (0.4, 2), (0.1, 1), (4.0, 12), (9.0, 12)])
def test_an_expert_takes_the_first_tokens_of_a_row_and_the_others_get_zeros(factor: float, capacity: int) -> None:
    """In training. Where a text is scored every token gets its expert."""
    experts, x = layer(factor), torch.randn(3, 12, D)
    torch.testing.assert_close(experts.train()(x)[0], by_hand(experts, x, capacity))
    torch.testing.assert_close(experts.eval()(x)[0], by_hand(experts, x, 12))


@pytest.mark.usefixtures("still")
def test_it_is_the_sparse_layer_of_transformers() -> None:
    """Values, gradients, and the loss that balances, with copied weights and a capacity that drops tokens."""
    switch = pytest.importorskip("transformers.models.switch_transformers.modeling_switch_transformers")
    config = switch.SwitchTransformersConfig(
        d_model=D, d_ff=4 * D, num_experts=N, expert_capacity=3, dropout_rate=0.0, router_jitter_noise=0.0
    )
    torch.manual_seed(1)
    theirs = switch.SwitchTransformersSparseMLP(config)
    ours, x = layer(capacity_factor=1.0).train(), torch.randn(2, 12, D)
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_(std=0.3)
        ours.router.weight.copy_(theirs.router.classifier.weight)
        for number, expert in enumerate(ours.experts):
            given = theirs.experts[f"expert_{number}"]
            expert.up.weight.copy_(given.wi.weight)
            expert.out.weight.copy_(given.wo.weight)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, penalty = ours(a)
    expected = theirs(b)
    assert (expected == 0).all(-1).any()
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(ours.router.weight.grad, theirs.router.classifier.weight.grad)
    logits = theirs.router(x)[2]
    balance = switch.load_balancing_loss_func(logits.softmax(-1), logits.argmax(-1))
    torch.testing.assert_close(penalty, 0.01 * balance)


def test_the_balance_is_alpha_where_all_get_as_many_and_alpha_n_where_one_gets_all() -> None:
    experts = layer()
    even = torch.eye(N).repeat(1, 3, 1) * 0.9 + 0.025
    assert float(experts.imbalance(even, even.argmax(-1))) == pytest.approx(0.01)
    one = torch.eye(N)[:1].expand(1, 12, N)
    assert float(experts.imbalance(one, one.argmax(-1))) == pytest.approx(0.01 * N)


def test_the_router_chooses_in_fp32_whatever_the_precision_and_is_not_rounded() -> None:
    router, x = Router(D, N), torch.randn(1, 5, D)
    with torch.autocast("cpu", torch.bfloat16):
        shares = router.eval()(x)
    assert shares.dtype == torch.float32
    assert torch.equal(shares, router(x))
    assert not torch.equal(router.train()(x), shares)  # the noise of training
    model = build()
    quantize(model)
    assert isinstance(model.blocks[1].experts.router, Router)
    assert isinstance(model.blocks[1].experts.experts[0].up, Int8Linear)


def test_experts_stand_in_every_second_block_and_cost_the_router_and_the_empty_places() -> None:
    model = build()
    assert [block.experts is not None for block in model.blocks] == [False, True, False, True]
    plans = [Plan.of({**SMALL, **more}) for more in ({}, {"experts": N, "capacity_factor": 1.0}, {"experts": N})]
    dense, even, spare = (multiply_adds(plan.outline(SPEC)) for plan in plans)
    feed_forward = 8 * 32 * 32
    assert even - dense == 2 * 32 * N
    assert spare - even == pytest.approx(2 * feed_forward / 3, abs=1)  # 8 places of an expert for 6 tokens
    more = parameter_count(plans[1].outline(SPEC)) - parameter_count(plans[0].outline(SPEC))
    assert more == 2 * ((N - 1) * feed_forward + 32 * N)


@pytest.mark.parametrize("settings", [{}, {"norm_place": "post", "activation": "swiglu", "bias": True}])
@torch.no_grad()
def test_text_in_pieces_and_tokens_that_are_written_get_the_same_experts(settings: dict[str, Any]) -> None:
    """The streaming law, far past the window; of a NumPy step and of one that a GPU would record."""
    model, text = build(**settings), tokens(2, 60)
    whole = model(text).logits
    state = model(text[:, :17]).state
    torch.testing.assert_close(model(text[:, 17:], state).logits, whole[:, 17:], atol=1e-4, rtol=1e-4)
    assert isinstance(model.stepper(2), TransformerStepper)
    for step in (model.stepper(2), GraphStepper(model, 2)):
        step.begin(state)
        for t in range(17, 60):
            torch.testing.assert_close(step(text[:, t]), whole[:, t], atol=1e-4, rtol=1e-4)
    assert model(text).penalty is None  # nothing is balanced where nothing is trained


@pytest.mark.usefixtures("still")
@torch.no_grad()
def test_a_row_of_training_does_not_depend_on_its_batch_and_the_penalty_is_the_mean_of_the_rows() -> None:
    model, text = build().train(), tokens(3, 24)
    together, alone = model(text), [model(text[n : n + 1]) for n in range(3)]
    torch.testing.assert_close(together.logits, torch.cat([out.logits for out in alone]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.penalty, torch.stack([out.penalty for out in alone]).mean())


def test_pieces_of_a_text_weigh_as_many_tokens_as_they_have() -> None:
    pieces = [Features(torch.zeros(1, n, 2), (), torch.tensor(penalty)) for n, penalty in ((3, 0.1), (1, 0.5))]
    assert float(joined(pieces).penalty) == pytest.approx(0.2)
    assert joined([piece._replace(penalty=None) for piece in pieces]).penalty is None


def trainer(**settings: Any) -> Trainer:
    s = TrainSettings(**{"batch_size": 4, "seq_len": 24, "steps": 2, "clip": 0.0, "optimizer": "adamw"} | settings)
    ids = tokens(1, 2000)[0].numpy().astype(np.uint8)
    batches = Windows(ids, batch_size=s.batch_size, seq_len=s.seq_len, order=s.order, seed=s.seed)
    model = build(balance=50.0)
    return Trainer(model, batches, build_optimizers(model, s), s)


@pytest.mark.usefixtures("still")
def test_what_is_reported_is_cross_entropy_and_what_is_minimised_is_more() -> None:
    fit = trainer()
    step = next(iter(fit))
    (feed,) = fit.recorder.feeds.values()
    (batch, _), *_ = feed.batches
    half = batch._replace(targets=batch.targets.clone().index_fill_(1, torch.arange(12), PAD))
    model = build(balance=50.0).train()
    with torch.no_grad():
        out = model(batch.tokens)
        whole, scored = (Causal().loss(model, shown, model.start(4)) for shown in (batch, half))
        nats = torch.nn.functional.cross_entropy(out.logits.mT, batch.targets)
    torch.testing.assert_close(step.nats, nats, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole.minimised / 96, nats + out.penalty, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scored.penalty / 48, out.penalty)  # it weighs as many tokens as are scored


def gradients(model: nn.Module, parts: list[Any]) -> list[Tensor]:
    """Of a step over these batches, as the trainer adds them up."""
    model.zero_grad()
    scored = sum(int((batch.targets != PAD).sum()) for batch in parts)
    for batch in parts:
        (Causal().loss(model, batch, model.start(len(batch.tokens))).minimised / scored).backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.usefixtures("still")
def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    """Whether the parts are accumulated, or belong to several processes, whose gradients are summed."""
    fit = trainer()
    feed, _ = fit.feed(0.0, torch.Generator())
    (batch, _), *_ = feed.batches
    model = build(balance=50.0).train()
    rows = [World(rank, 2).rows for rank in range(2)]
    parts = [batch._replace(tokens=batch.tokens[mine], targets=batch.targets[mine]) for mine in rows]
    for whole, summed in zip(gradients(model, [batch]), gradients(model, parts), strict=True):
        torch.testing.assert_close(whole, summed, atol=1e-5, rtol=1e-3)


def test_the_balance_keeps_experts_at_work() -> None:
    """Where one expert is favoured, a training with the loss gives the others tokens, and one without does not."""
    spread = []
    for balance in (0.0, 1.0):
        torch.manual_seed(0)
        experts = Experts(BlockConfig(hidden_size=D), N, capacity_factor=4.0, balance=balance).train()
        with torch.no_grad():
            experts.router.weight[0] += 1.0
        optimizer = torch.optim.Adam(experts.parameters(), 1e-2)
        x = torch.randn(4, 32, D).abs()
        for _ in range(100):
            y, penalty = experts(x)
            ((y - x).square().mean() + penalty).backward()
            optimizer.step()
            optimizer.zero_grad()
        load = experts.router(x).argmax(-1).flatten().bincount(minlength=N) / 128
        spread.append(float(load.max()))
    assert spread[1] < 0.5 < spread[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share_layers": True}, "--experts 4 stand in every second block, and --share-layers makes all blocks alike"),
        ({"layers": 1}, "--layers 1 has no second one"),
    ],
)
def test_experts_without_a_place_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(**settings)


def test_a_training_says_both_of_its_sizes(
    tmp_path: Path, verses: Path, typed: Callable[..., tuple[int, str, str]]
) -> None:
    tiny = ("--hidden-size", "32", "--heads", "2", "--seq-len", "16", "--steps", "3", "--device", "cpu")
    code, out, error = typed("train", verses, "--preset", "switch-tiny", "--out", tmp_path / "run", *tiny)
    assert code == 0, error
    assert re.search(r"model: transformer, [\d.]+k parameters, [\d.]+k multiply-adds per token, on the CPU", out)
    size = json.loads(typed("info", tmp_path / "run", "--json")[1])
    assert re.search(rf"multiply_adds +{size['multiply_adds']}\n", typed("info", tmp_path / "run")[1])
    assert size["multiply_adds"] < size["params"]
