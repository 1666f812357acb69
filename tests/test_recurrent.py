"""The recurrent models against the equations of their papers and against each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from charlm.archs.seq2seq import Attention
from charlm.config import DataSpec
from charlm.errors import SettingsError
from charlm.plan import Plan

SPEC = DataSpec(vocab_size=13, seq_len=12)
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
    torch.testing.assert_close(model.features(TOKENS).hidden, torch.stack(hidden, 1))


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


def test_tied_models_use_one_matrix_and_refuse_sizes_that_do_not_fit() -> None:
    model = build("lstm", tied=True)
    assert model.head.weight is model.embed.weight
    with pytest.raises(SettingsError, match=r"--tied needs an --embedding-size equal to --hidden-size \(8\), got 5"):
        build("lstm", tied=True, embedding_size=5)


def by_the_paper(kind: str, attention: Attention, d: Tensor, h: Tensor) -> Tensor:
    """Attention weights (T, S) of decoder states d (T, D) over encoder states h (S, D), one number at a time."""
    rows = []
    for d_t in d:
        energies = []
        for h_s in h:
            if kind == "dot":
                e = d_t @ h_s
            elif kind == "general":
                e = d_t @ attention.query.weight.T @ h_s
            else:
                e = attention.score.weight[0] @ torch.tanh(attention.query.weight @ d_t + attention.key.weight @ h_s)
            energies.append(math.exp(float(e)))
        rows.append([e / sum(energies) for e in energies])
    return torch.tensor(rows)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dot", "general", "additive"])
def test_attention_is_the_papers_and_ignores_padding(kind: str) -> None:
    torch.manual_seed(0)
    attention, d, h = Attention(kind, 6), torch.randn(2, 4, 6), torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    weights = attention.weights(d, h, mask)
    torch.testing.assert_close(weights[0], by_the_paper(kind, attention, d[0], h[0]))
    torch.testing.assert_close(weights[1, :, :3], by_the_paper(kind, attention, d[1], h[1, :3]))
    assert (weights[1, :, 3:] == 0).all()


@pytest.mark.parametrize("kind", ["dot", "general", "additive", "none"])
def test_every_attention_writes_and_only_none_forgets_the_source(kind: str) -> None:
    model = build("seq2seq", attention=kind, layers=1).eval()
    source = torch.randint(13, (2, 6))
    out = model(TOKENS[:, :4], source=source)
    assert out.logits.shape == (2, 4, 13)
    changed = out.state._replace(source=out.state.source * 0.5)
    same = torch.allclose(model(TOKENS[:, 4:5], changed).logits, model(TOKENS[:, 4:5], out.state).logits)
    assert same == (kind == "none")
