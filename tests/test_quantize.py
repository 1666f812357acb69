"""Weights of 8 bits: what they are, that they change little, and where they are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pairwise import pairwise
from torch import nn

import charlm
from charlm import job
from charlm.archs._numpy import TransformerStepper
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.plan import Plan
from charlm.quantize import Int8Linear, quantize
from charlm.text.corpus import Corpus

Typed = Callable[..., tuple[int, str, str]]


def train(folder: Path, **settings: object) -> Path:
    text = folder / "verses.txt"
    text.write_text(12 * "The lamp is out, the tide is in.\nWICK: I am wet to the knee, and the broth is cold.\n")
    sizes = {"hidden_size": 64, "layers": 2, "seq_len": 32, "batch_size": 8, "steps": 60}
    plan = Plan.of({"arch": "transformer", **sizes, **settings})
    for _ in job.train(plan, Corpus.open([text]), out=folder / "run", cache_dir=folder):
        pass
    return folder / "run"


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("quantize"))


@pytest.mark.parametrize("bias", [False, True])
def test_every_weight_is_the_nearest_of_255_and_the_product_follows(bias: bool) -> None:
    torch.manual_seed(0)
    exact, x = nn.Linear(48, 96, bias=bias), torch.randn(5, 7, 48)
    rounded = Int8Linear(exact)
    step = rounded.scale.float()[:, None]
    assert ((rounded.weight * step - exact.weight).abs() <= step * 0.5001 + step * 127 / 256).all()  # scales are bf16
    inner = exact.weight.abs() < 126 * step
    assert ((rounded.weight * step - exact.weight).abs()[inner] <= (step * 0.5001).expand_as(inner)[inner]).all()
    expected = x.bfloat16().float() @ (rounded.weight * step).T + (exact.bias if bias else 0)
    torch.testing.assert_close(rounded(x), expected, atol=0.02, rtol=0.01)


def products_are_exact() -> None:
    """Of every width up to 70, and of two that models have, with 1 to 40 rows."""
    torch.manual_seed(0)
    for width, outputs, rows in pairwise([*range(1, 71), 100, 341], (1, 4, 7), (1, 2, 3, 5, 40)):
        exact, x = nn.Linear(width, outputs, bias=False), torch.randn(rows, width)
        rounded = Int8Linear(exact)
        expected = x.bfloat16().double() @ (rounded.weight[:, :width].double() * rounded.scale.double()[:, None]).T
        torch.testing.assert_close(rounded(x).double(), expected, atol=0.02, rtol=0.02)


def test_products_of_any_width_are_exact() -> None:
    products_are_exact()


def test_they_are_on_a_processor_with_shorter_vectors() -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    code = "from test_quantize import products_are_exact; products_are_exact()"
    lesser = os.environ | {"ATEN_CPU_CAPABILITY": "avx2", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code], env=lesser, check=True)


@torch.no_grad()
def test_a_step_is_features_of_the_rounded_model(transformer: Path) -> None:
    lm = charlm.load(transformer, quantize="int8")
    text = torch.from_numpy(lm.tokenizer.encode("WICK:\nThe lamp is out, the tide is in"))[None]
    expected, step = lm.model(text).logits, lm.model.stepper(1)
    assert isinstance(step, TransformerStepper)
    step.begin(lm.model.start(1))
    for t in range(text.size(1)):
        torch.testing.assert_close(step(text[:, t]), expected[:, t], atol=0.15, rtol=0.05)


def test_it_costs_less_than_a_hundredth_of_a_bit_and_eval_says_so(transformer: Path, typed: Typed) -> None:
    code, out, _ = typed("eval", transformer, "--quantize", "int8", "--json")
    rounded = json.loads(out)
    exact = json.loads(typed("eval", transformer, "--json")[1])
    assert code == 0
    assert rounded["bits_per_byte_lost"] == pytest.approx(rounded["bits_per_byte"] - exact["bits_per_byte"])
    assert 0 < abs(rounded["bits_per_byte_lost"]) < 0.01
    assert rounded["params"] == exact["params"]


def test_a_model_of_odd_widths_loses_as_little(tmp_path: Path, typed: Typed) -> None:
    run = train(tmp_path, hidden_size=100, heads=5, activation="swiglu", steps=20)  # 266 units between its layers
    assert 0 < abs(json.loads(typed("eval", run, "--quantize", "int8", "--json")[1])["bits_per_byte_lost"]) < 0.01
    assert typed("sample", run, "--quantize", "int8", "--length", "50")[0] == 0


def test_it_writes(transformer: Path, typed: Typed) -> None:
    code, out, _ = typed("sample", transformer, "--quantize", "int8", "--length", "50", "--prompt", "WICK")
    assert code == 0
    assert len(out) == len("WICK") + 50 + 1


def test_where_it_gains_nothing_it_is_refused(trained: Path, typed: Typed) -> None:
    code, out, error = typed("sample", trained, "--quantize", "int8")
    assert (code, out) == (2, "")
    assert "most weights of this architecture are in others; leave it out" in error
    with pytest.raises(SettingsError, match="for writing on a CPU"):
        quantize(Plan.of({"arch": "transformer"}).outline(DataSpec(11, Lengths.of_text(8))))
    with pytest.raises(SettingsError, match="must be one of int8, got 'int4'"):
        charlm.load(trained, quantize="int4")
