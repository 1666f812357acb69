"""The recurrent models against the equations of their papers and against each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from charlm.archs._layers import dropout, layers_first, run_in_turn
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.model import Output, State, leaves, map_state
from charlm.objectives._guess import scheduled_sampling
from charlm.plan import Plan

SPEC = DataSpec(13, Lengths.of_text(12))
TOKENS = torch.randint(13, (2, 12), generator=torch.Generator().manual_seed(0))


def build(arch: str, **settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return Plan.of({"arch": arch, "hidden_size": 8, "layers": 2, "dropout": 0.0, **settings}).build(SPEC)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"embedding_size": 5}, {"tied": True}])
def test_an_lstms_weights_in_an_lstmcell_give_the_same_logits(options: dict[str, object]) -> None:
    fused, loop = build("lstm", **options).eval(), build("lstmcell", **options).eval()
    weights = dict(fused.named_parameters())
    for name, p in loop.named_parameters():
        _, layer, kind = name.split(".") if name.startswith("rnn") else ("", "", "")
        p.copy_(weights[f"rnn.{kind}_l{layer}" if kind else name])
    a, b = fused(TOKENS), loop(TOKENS)
    torch.testing.assert_close(a.logits, b.logits)
    torch.testing.assert_close(fused(TOKENS, a.state).logits, loop(TOKENS, b.state).logits)


@torch.no_grad()
def test_an_lstm_is_the_loop_that_its_docstring_shows() -> None:
    model = build("lstm", layers=1).eval()
    rnn, x = model.rnn, model.embed(TOKENS)
    h = c = torch.zeros(2, 8)
    hidden = []
    for t in range(12):
        i, f, g, o = (x[:, t] @ rnn.weight_ih_l0.T + h @ rnn.weight_hh_l0.T + rnn.bias_ih_l0 + rnn.bias_hh_l0).chunk(
            4, 1
        )
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hidden.append(h)
    torch.testing.assert_close(model.features(TOKENS, model.start(2)).hidden, torch.stack(hidden, 1))


def test_the_forget_gates_start_open() -> None:
    for arch in ("lstm", "lstmcell"):
        plain, open_ = build(arch, forget_bias=0.0), build(arch, forget_bias=1.0)
        for (name, a), b in zip(plain.named_parameters(), open_.parameters(), strict=True):
            raised = (b - a).detach()
            expected = torch.zeros_like(raised)
            if "bias_ih" in name:
                expected[8:16] = 1.0
            torch.testing.assert_close(raised, expected)


@pytest.mark.parametrize("arch", ["lstm", "lstmcell", "gru", "rnn"])
def test_weight_drop_zeroes_recurrent_weights_in_training_and_nothing_when_writing(arch: str) -> None:
    model = build(arch, weight_drop=0.5)
    first, second = model.train()(TOKENS).logits, model(TOKENS).logits
    assert not torch.allclose(first, second)
    torch.testing.assert_close(first[:, 0], second[:, 0])  # before the first step back nothing recurrent has happened
    first.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "weight_hh" in n)
    model.eval()
    torch.testing.assert_close(model(TOKENS).logits, model(TOKENS).logits)


@pytest.mark.parametrize("arch", ["lstm", "lstmcell", "gru", "rnn"])
def test_weight_drop_draws_one_mask_for_a_sequence_that_is_fed_token_by_token(arch: str) -> None:
    """As scheduled sampling does; fed the truth alone, it is the sequence at once. The next segment's is another."""
    model = build(arch, weight_drop=0.5).train()

    def segments(feed: Callable[[State], Output]) -> list[Tensor]:
        torch.manual_seed(0)
        first = feed(model.start(2))
        torch.manual_seed(1)
        return [first.logits, feed(model.carry(first.state)).logits]

    at_once = segments(lambda state: model(TOKENS, state))
    by_token = segments(lambda state: scheduled_sampling(model, TOKENS, state, teacher_forcing=1.0))
    torch.testing.assert_close(by_token, at_once)
    carried = model.carry(model(TOKENS).state)
    assert not torch.allclose(model(TOKENS, carried).logits, model(TOKENS, carried).logits)


def test_tied_models_use_one_matrix_and_refuse_sizes_that_do_not_fit() -> None:
    model = build("lstm", tied=True)
    assert model.head.weight is model.embed.weight
    with pytest.raises(SettingsError, match=r"--tied needs an --embedding-size equal to --hidden-size \(8\), got 5"):
        build("lstm", tied=True, embedding_size=5)


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.95])
def test_dropout_leaves_out_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 30_001, requires_grad=True)
    y = dropout(x, p, training=True)
    kept = (y != 0).float()
    assert float(1 - kept.mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    torch.testing.assert_close(y, kept / (1 - p), rtol=1e-3, atol=0)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())
    assert torch.equal(dropout(x, p, training=False), x)


@pytest.mark.parametrize("weight_drop", [0.0, 0.5])
@pytest.mark.parametrize("arch", ["lstm", "gru", "rnn"])
def test_layers_one_after_the_other_compute_what_the_fused_ones_do(arch: str, weight_drop: float) -> None:
    """As on a GPU; forwards and backwards, where dropout has nothing to do."""
    model = build(arch, layers=3, weight_drop=weight_drop).train()
    x, results = torch.randn(2, 12, 64), []
    start = map_state(torch.randn_like, map_state(layers_first, model.start(2)))
    weights = model.dropped(model.rnn, start)
    for run in (run_in_turn, lambda rnn, x, state, weights: functional_call(rnn, weights, (x, state))):
        model.zero_grad()
        hidden, state = run(model.rnn, x, start, weights)
        sum(t.sin().sum() for t in (hidden, *leaves(state))).backward(retain_graph=True)
        results.append([hidden, *leaves(state), *(p.grad.clone() for p in model.rnn.parameters())])
    torch.testing.assert_close(*results)
    torch.testing.assert_close(run_in_turn(model.rnn.eval(), x, start, {}), model.rnn(x, start))


def test_what_is_dropped_between_layers_follows_from_the_seed_and_is_between_them_alone() -> None:
    model = build("gru", layers=2, dropout=0.5)
    x, start = torch.randn(2, 12, 64), map_state(layers_first, model.start(2))
    _, whole = run_in_turn(model.rnn.eval(), x, start, {})
    model.train()

    def trained(seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        return run_in_turn(model.rnn, x, start, {})

    (hidden, state), again, other = map(trained, (1, 1, 2))
    torch.testing.assert_close((hidden, state), again, rtol=0, atol=0)
    torch.testing.assert_close(state[0], whole[0])
    assert not torch.allclose(hidden, other[0])
    assert (hidden != 0).all()
