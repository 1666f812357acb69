"""What `auto` becomes, and what is asked for in vain."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from charlm import archs, device
from charlm.config import DataSpec, Lengths, TrainSettings, take
from charlm.device import choose_precision, settle, training_problem
from charlm.errors import SettingsError
from charlm.model import Features, LanguageModel
from charlm.objectives.causal import Causal

CPU = torch.device("cpu")


def build(arch: str, **settings: Any) -> LanguageModel:
    kind = archs.load(arch)
    return kind(take(kind.Config, {"layers": 1, **settings}), DataSpec(11, Lengths.of_text(16)))


def few_tokens(model: LanguageModel) -> Callable[[], Tensor]:
    return lambda: model(torch.zeros(1, 2, dtype=torch.long)).logits.float().sum()


@pytest.fixture(autouse=True)
def a_compiler_and_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(device, "can_compile", lambda _: True)
    monkeypatch.setattr(device, "multiplies_bf16", lambda _: True)


@pytest.mark.parametrize(
    ("asked", "arch", "becomes"),
    [
        ({"minutes": 5.0}, "transformer", "off"),
        ({"minutes": 30.0}, "transformer", "on"),
        ({"minutes": 30.0}, "lstm", "off"),  # an architecture that gains nothing
        ({"steps": 10**6}, "transformer", "off"),  # nobody knows how long that takes
        ({"minutes": 30.0, "compile": "off"}, "transformer", "off"),
        ({"steps": 10, "compile": "on"}, "lstm", "on"),
    ],
)
def test_a_long_budget_is_compiled_where_it_pays(asked: dict[str, Any], arch: str, becomes: str) -> None:
    model = build(arch, hidden_size=16)
    settled, line = settle(TrainSettings(**asked), model, few_tokens(model))
    assert settled.compile == becomes
    assert ("compiled" in line) == (becomes == "on")


def test_without_a_compiler_training_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "can_compile", lambda _: False)
    model = build("gru")
    settled, line = settle(TrainSettings(steps=1, compile="on"), model, few_tokens(model))
    assert settled.compile == "off"
    assert "not compiled: torch.compile finds no compiler here" in line


def test_what_is_fed_token_by_token_is_not_compiled_and_says_so() -> None:
    model = build("lstm")
    settled, line = settle(TrainSettings(steps=1, compile="on"), model, few_tokens(model), by_token=True)
    assert settled.compile == "off"
    assert "not compiled: scheduled sampling feeds token by token" in line
    assert Causal(teacher_forcing=0.9).by_token
    assert not Causal().by_token


@pytest.mark.parametrize(("size", "precision"), [(256, "bf16"), (252, "fp32")])
def test_bf16_is_chosen_where_it_pays(size: int, precision: str) -> None:
    model = build("transformer", hidden_size=size, heads=2)
    settled, line = settle(TrainSettings(steps=1), model, few_tokens(model))
    assert settled.precision == precision
    assert precision in line
    assert settle(TrainSettings(steps=1, precision="fp32"), model, few_tokens(model))[0].precision == "fp32"


def test_a_gpu_takes_bf16_at_any_size_of_a_kind_that_gains_and_a_cpu_from_one_on() -> None:
    cuda = torch.device("cuda")
    lstm, gru = archs.load("lstm"), archs.load("gru")
    assert [device.bf16_is_faster(lstm, size, CPU) for size in (191, 192)] == [False, True]
    assert [device.bf16_is_faster(kind, 8, cuda) for kind in (lstm, gru)] == [True, False]
    assert not device.bf16_is_faster(gru, 65_536, CPU)


class Wave(LanguageModel):
    """A model of complex numbers, which no processor has in bf16."""

    Config = archs.load("gru").Config
    bf16_from = 0

    def __init__(self, size: int) -> None:
        super().__init__(self.Config(), DataSpec(size, Lengths.of_text(16)))
        self.embed, self.head = torch.nn.Embedding(size, size), torch.nn.Linear(size, size)

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows, 0)

    def features(self, tokens: Tensor, state: Any) -> Features:
        x = self.head(self.embed(tokens))
        return Features(torch.complex(x, x).abs(), state)


def test_what_the_device_cannot_compute_is_refused_and_never_chosen() -> None:
    model = Wave(3)
    assert training_problem(model, "fp32", few_tokens(model)) == ""
    assert "BFloat16" in training_problem(model, "bf16", few_tokens(model))
    with pytest.raises(SettingsError, match=r"^--precision bf16 is not available .* use fp32 or auto$"):
        choose_precision("bf16", model, few_tokens(model))
    assert choose_precision("auto", model, few_tokens(model)) == "fp32"


@pytest.mark.parametrize("arch", ["lstm", "gru"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trying_leaves_no_trace(arch: str, precision: str) -> None:
    model = build(arch, hidden_size=16)
    before = [p.detach().clone() for p in model.parameters()]
    training_problem(model, precision, few_tokens(model))
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


@pytest.mark.slow
def test_on_an_older_processor_bf16_is_refused_in_one_line_everywhere(verses: Path) -> None:
    """oneDNN can be told to take this processor for one without AVX-512, which has no LSTM in bf16."""
    env, words = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, [sys.executable, "-c", OLDER]
    done = subprocess.run(words, cwd=verses.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    x86 = platform.machine().lower() in {"x86_64", "amd64"}  # elsewhere the variable says nothing: bf16 may be there
    assert len(said) == 4 or (not x86 and not said)
    for line in said:
        assert line.startswith("charlm: --precision bf16 is not available here for ")
        assert "use fp32 or auto" in line


OLDER = """
from pathlib import Path
from charlm.cli.app import run
from charlm.runs import folder
small = "--hidden-size 16 --steps 4 --quiet".split()
codes = [run(["train", "verses.txt", "--arch", arch, "--precision", "bf16", *small]) for arch in ("lstm", "seq2seq")]
codes.append(run("compare verses.txt --arch gru,lstm --precision bf16 --steps 2 --match tokens --json".split()))
made = [path.name for path in Path().iterdir() if path.is_dir() and path.name != "cache"]
assert codes == [0, 0, 0] or (codes == [2, 2, 2] and made == []), (codes, made)
assert run(["train", "verses.txt", "--out", "run", "--precision", "fp32", "--stop-after", "2", *small]) == 0
config = folder.read_json(Path("run/config.json"))
config["train"]["precision"] = "bf16"  # as if it had been begun elsewhere
folder.write_json(Path("run/config.json"), config)
assert run("train --resume run --stop-after 1 --quiet".split()) == codes[0]
assert run("train --resume run --precision auto --quiet".split()) == 0
"""
