"""The transformer against other people's: GPT-2 of `transformers`, and the sums of the papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairwise import pairwise

from charlm.archs._numpy import ANY_VALUE, KNOWN, TransformerStepper
from charlm.archs._positions import Rotary, rotate, sinusoids
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.plan import Plan
from charlm.presets import read

SPEC = DataSpec(29, Lengths.of_text(24))


def build(**settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return Plan.of({"arch": "transformer", "hidden_size": 32, "layers": 2, "heads": 4, **settings}).build(SPEC).eval()


@torch.no_grad()
def test_gpt2_tiny_gives_the_logits_of_gpt2() -> None:
    transformers = pytest.importorskip("transformers")
    plan = Plan.of(read("gpt2-tiny"))
    ours = plan.build(SPEC).eval()
    c = plan.model
    config = transformers.GPT2Config(
        vocab_size=SPEC.vocab_size,
        n_positions=SPEC.lengths.window,
        n_embd=c.hidden_size,
        n_layer=c.layers,
        n_head=c.heads,
    )
    torch.manual_seed(1)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for p in theirs.parameters():
        p.add_(0.02 * torch.randn_like(p))  # GPT-2 starts with zero biases, which would hide a missing one
    given = theirs.transformer.state_dict()
    names = {"embed": "wte", "positions.embed": "wpe", "norm": "ln_f"}
    parts = {"norm1": "ln_1", "norm3": "ln_2", "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj"}
    parts |= {"feed_forward.up": "mlp.c_fc", "feed_forward.out": "mlp.c_proj"}
    for block in range(c.layers):
        names |= {f"blocks.{block}.{our}": f"h.{block}.{their}" for our, their in parts.items()}
    for name, p in ours.named_parameters():
        module, _, kind = name.rpartition(".")
        weight = given[f"{names[module]}.{kind}"]
        p.copy_(weight.T if ".c_" in names[module] and kind == "weight" else weight)  # theirs are Conv1D
    tokens = torch.randint(SPEC.vocab_size, (3, SPEC.lengths.window))
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, atol=1e-4, rtol=0)


MIXTURES = pairwise(
    ["sinusoidal", "learned", "rotary", "none"],
    ["layer", "rms"],
    ["pre", "post"],
    ["relu", "gelu", "relu2", "swiglu"],
)


@pytest.mark.parametrize(("positions", "norm", "norm_place", "activation"), MIXTURES)
@torch.no_grad()
def test_every_mixture_of_two_options_streams(positions: str, norm: str, norm_place: str, activation: str) -> None:
    options = {"positions": positions, "norm": norm, "norm_place": norm_place, "activation": activation}
    model = build(**options, bias=norm == "layer", qk_norm=norm == "rms", tied=activation == "gelu")
    for p in model.parameters():
        p.add_(0.1 * torch.randn_like(p))
    tokens = torch.randint(SPEC.vocab_size, (2, 30))
    whole = model(tokens).logits
    first = model(tokens[:, :11])
    torch.testing.assert_close(model(tokens[:, 11:], first.state).logits, whole[:, 11:], atol=1e-4, rtol=1e-4)
    step = model.stepper(1)
    assert isinstance(step, TransformerStepper)
    step.begin(model(tokens[:1, :11]).state)
    for t in range(11, 30):
        torch.testing.assert_close(step(tokens[:1, t]), whole[:1, t], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_heads_of_an_odd_width_write_what_they_read() -> None:
    settings = {"arch": "transformer", "positions": "learned", "layers": 1, "hidden_size": 14, "heads": 2}
    model: Any = Plan.of(settings).build(DataSpec(11, Lengths.of_text(8))).eval()
    text, step = torch.arange(10)[None], model.stepper(1)
    step.begin(model.start(1))
    for t in range(10):
        torch.testing.assert_close(step(text[:, t]), model(text).logits[:, t], atol=1e-5, rtol=1e-4)


def test_an_option_that_the_fast_step_does_not_know_is_left_to_the_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    monkeypatch.setitem(KNOWN, "activation", ("relu", "gelu", "swiglu"))  # as if squared ReLU were new
    assert not isinstance(model.stepper(1), TransformerStepper)
    monkeypatch.setattr("charlm.archs._numpy.ANY_VALUE", ANY_VALUE - {"ngram"})  # as if that were a new option
    assert not isinstance(build(activation="gelu").stepper(1), TransformerStepper)


def test_a_fresh_pre_norm_model_says_what_its_last_token_says_and_nothing_else() -> None:
    model = build()
    a, b = torch.tensor([[1, 2, 3]]), torch.tensor([[7, 8, 3]])
    torch.testing.assert_close(model(a).logits[:, -1], model(b).logits[:, -1])


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    turn = Rotary(50, 8).table
    score = lambda i, j: float((rotate(q, turn[i : i + 1]) * rotate(k, turn[j : j + 1])).sum())  # noqa: E731
    assert score(3, 1) == pytest.approx(score(40, 38), abs=1e-4)
    assert score(3, 1) != pytest.approx(score(5, 1), abs=1e-3)


def test_sinusoids_are_those_of_the_paper() -> None:
    table = sinusoids(10, 6)
    for pos in range(10):
        for i in range(3):
            angle = torch.tensor(pos / 10_000 ** (2 * i / 6))
            assert float(table[pos, 2 * i]) == pytest.approx(float(angle.sin()), abs=1e-6)
            assert float(table[pos, 2 * i + 1]) == pytest.approx(float(angle.cos()), abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 30, "heads": 4}, "--hidden-size must be a multiple of --heads, got 30 and 4"),
        ({"hidden_size": 12, "heads": 4}, "--positions rotary needs an even number of units per head"),
    ],
)
def test_heads_that_do_not_fit_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(**settings)
