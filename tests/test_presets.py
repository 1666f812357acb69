"""Presets of published models have their shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from charlm import presets
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.model import parameter_count
from charlm.plan import Plan
from charlm.work import multiply_adds

PARAMETERS = {
    "gpt1": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "bert-base": 109_482_240 + 590_592 + 1_536 + 30_519 + 1_538,  # the body; two layers, a norm and biases of its heads
    "bert-large": 335_141_888 + 1_049_600 + 2_048 + 30_519 + 2_050,
}
ROUNDED = {  # Brown et al. 2020, table 2.1
    "gpt3-small": 125e6,
    "gpt3-medium": 350e6,
    "gpt3-large": 760e6,
    "gpt3-xl": 1.3e9,
    "gpt3-2.7b": 2.7e9,
    "gpt3-6.7b": 6.7e9,
    "gpt3-13b": 13e9,
    "gpt3-175b": 175e9,
}


def parameters(name: str) -> int:
    plan = Plan.of(presets.read(name))
    return parameter_count(plan.outline(DataSpec(plan.data.vocab_size, Lengths.of_text(plan.train.seq_len))))


@pytest.mark.parametrize("name", PARAMETERS)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    assert parameters(name) == PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in presets.names() if name.endswith("-tiny")])
def test_small_presets_say_what_they_cost_before_they_are_trained(name: str) -> None:
    plan = Plan.of(presets.read(name))
    work = multiply_adds(plan.outline(DataSpec(65, plan.lengths)))
    assert 0.7e6 < work < 1.5e6, "so that they compare"


@pytest.mark.parametrize("name", ROUNDED)
def test_presets_of_gpt3_have_the_rounded_number_that_was_published(name: str) -> None:
    assert parameters(name) == pytest.approx(ROUNDED[name], rel=0.01 if name == "gpt3-175b" else 0.05)


def test_a_step_of_gpt3_reads_the_published_number_of_tokens() -> None:
    tokens = {}
    for name in ROUNDED:
        train = Plan.of(presets.read(name)).train
        tokens[name] = train.batch_size * train.accumulate * train.seq_len
        assert train.steps * tokens[name] == pytest.approx(300e9, rel=0.01)
    assert tokens["gpt3-small"] == 2**19
    assert tokens["gpt3-175b"] == pytest.approx(3.2e6, rel=0.01)


@pytest.mark.parametrize(("name", "residual"), [("gpt2-tiny", 0.02 / 8**0.5), ("gpt1-tiny", 0.02)])
def test_a_published_start_is_that_of_the_paper(name: str, residual: float) -> None:
    """Radford et al. 2019, section 2.3: residual projections are scaled by the depth. GPT's are not."""
    torch.manual_seed(0)
    model = Plan.of(presets.read(name)).build(DataSpec(1000, Lengths.of_text(64)))
    for name, p in model.named_parameters():
        if p.dim() == 2:
            expected = residual if name.endswith("out.weight") else 0.02
            assert float(p.detach().std()) == pytest.approx(expected, rel=0.03), name
        else:
            assert torch.equal(p.detach(), torch.full_like(p.detach(), "norm" in name and name.endswith("weight"))), (
                name
            )


def test_a_file_of_settings_may_build_on_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "gpt2-medium"\nlr = 1e-5\n')
    assert presets.read_settings(path) == presets.read("gpt2") | presets.read("gpt2-medium") | {"lr": 1e-5}
    path.write_text('base = "gtp2"')
    with pytest.raises(SettingsError, match="no preset 'gtp2'"):
        presets.read_settings(path)
