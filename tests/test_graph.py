"""A GPU learns and writes what a CPU does. The step that is recorded for it is held to the model here without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from charlm.archs._graph import CarriedStepper, GraphStepper
from charlm.archs._relative_steppers import RingStepper
from charlm.config import DataSpec, Lengths
from charlm.model import PAD, LanguageModel
from charlm.plan import Plan

SPEC = DataSpec(11, Lengths.of_text(12))
MODELS = {
    "lstm": CarriedStepper,
    "lstmcell": CarriedStepper,
    "gru": CarriedStepper,
    "rnn": CarriedStepper,
    "transformer": GraphStepper,
    "transformer-xl": RingStepper,
}


def build(arch: str, **settings: object) -> LanguageModel:
    torch.manual_seed(0)
    model = Plan.of({"arch": arch, "hidden_size": 32, "layers": 2, **settings}).build(SPEC).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(SPEC.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("arch", MODELS)
@torch.no_grad()
def test_a_step_on_tensors_that_stay_is_features_of_one_token(arch: str) -> None:
    """From nothing and from a state that was read, and for one text after another."""
    model, text = build(arch), tokens(2, 30)
    step = MODELS[arch](model, 2)
    for read in (0, 5, 25, 0):
        state = model.read(tokens(2, read, seed=7))
        expected = model.head(model.features(text, state).hidden)
        step.begin(state)
        for t in range(text.size(1)):
            torch.testing.assert_close(step(text[:, t]), expected[:, t], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"positions": "learned"}, {"positions": "sinusoidal"}, {"ngram": 1}, {"ngram": 9}])
@torch.no_grad()
def test_so_it_is_with_every_kind_of_position(options: dict[str, object]) -> None:
    model, text = build("transformer", **options), tokens(2, 20)
    step, expected = GraphStepper(model, 2), model(text).logits
    step.begin(model.start(2))
    for t in range(text.size(1)):
        torch.testing.assert_close(step(text[:, t]), expected[:, t], atol=1e-4, rtol=1e-4)


ON_GPU = """
import sys, torch
from itertools import islice
from charlm.plan import Plan
from charlm.config import DataSpec, Lengths
from charlm.sampling.filters import Picker
from charlm.sampling.noise import streams
from charlm.sampling.generate import generate
from charlm.sampling.settings import SampleSettings
for arch in sys.argv[1:]:
    torch.manual_seed(0)
    plan = Plan.of({"arch": arch, "hidden_size": 64, "layers": 2})
    model = plan.build(DataSpec(11, Lengths.of_text(12))).cuda().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    start = torch.randint(11, (1, 5), device="cuda")
    pick = Picker(SampleSettings("0"), streams(0, [0], "cuda"))
    rows = [ids for ids, _ in islice(generate(model, start, pick, samples=3), 40)]
    text = torch.cat([start, torch.stack(rows, 1)[:1]], 1)
    with torch.no_grad():
        again = model(text[:, :-1]).logits[:, 4:].argmax(-1)
    assert (again == text[:, 5:]).float().mean() > 0.9, arch  # ties and rounding may turn a choice
    print(arch, type(model.stepper(3)).__name__)
"""


@pytest.mark.gpu
def test_graphs_equal_eager_on_a_gpu() -> None:
    command = [sys.executable, "-c", ON_GPU, *MODELS]
    shown = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=True).stdout.split()
    assert shown[1::2] == [kind.__name__ for kind in MODELS.values()]


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ["lstm", "lstmcell", "seq2seq", "transformer"])
@pytest.mark.parametrize("options", [["--precision", "bf16"], ["--precision", "fp32", "--optimizer", "muon"]])
def test_training_on_a_gpu_learns_and_writes(arch: str, options: list[str], verses: Path) -> None:
    charlm = [sys.executable, "-m", "charlm"]
    settings = [
        "--preset",
        "tiny",
        "--steps",
        "150",
        "--hidden-size",
        "64",
        "--seq-len",
        "32",
        "--arch",
        arch,
        *options,
    ]
    subprocess.run([*charlm, "train", verses, "--device", "cuda", "--out", "run", *settings, "--quiet"], check=True)
    scores = [
        json.loads(subprocess.run([*charlm, "eval", "run", "--json", "--device", device], capture_output=True).stdout)
        for device in ("cuda", "cpu")
    ]
    assert scores[0]["bits_per_byte"] < 3
    assert scores[0]["bits_per_byte"] == pytest.approx(scores[1]["bits_per_byte"], rel=0.01)
    written = subprocess.run([*charlm, "sample", "run", "--device", "cuda", "--length", "100"], capture_output=True)
    assert len(written.stdout) == 101


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ["lstm", "gru", "rnn", "seq2seq"])
def test_what_is_dropped_between_layers_follows_from_the_seed(arch: str) -> None:
    model = build(arch, dropout=0.5).cuda().train()
    text = tokens(2, 12).cuda()

    def trained(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(text, model.start(2)).logits

    first, _, again = (trained(seed) for seed in (1, 2, 1))
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, trained(2))


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{"cell": "lstm"}, {"cell": "gru"}, {"bidirectional": False}])
def test_a_source_is_read_on_a_gpu_as_on_a_cpu_and_nothing_waits_for_it(options: dict[str, object]) -> None:
    model, text, source = build("seq2seq", **options), tokens(3, 6), tokens(3, 6, seed=1)
    source[0, 4:] = source[1] = PAD
    expected = model(text, source=source).logits
    model, text, source = model.cuda(), text.cuda(), source.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        logits = model(text, source=source).logits
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(logits.cpu(), expected, atol=1e-2, rtol=1e-2)  # TF32
