"""What a GPU writes as one graph of many steps is what is picked token by token. Without a GPU the same work is called
as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from charlm import archs
from charlm.archs._graph import CarriedStepper, FixedStepper, GraphStepper
from charlm.archs._relative_steppers import RingStepper
from charlm.archs.reformer import HashStepper
from charlm.config import DataSpec, Lengths, take
from charlm.model import LanguageModel, PlainStepper
from charlm.recording import Recorded
from charlm.sampling import generate, unrolled
from charlm.sampling.filters import Picker
from charlm.sampling.noise import streams
from charlm.sampling.settings import MEMORY, SampleSettings
from charlm.sampling.shared import SharedPicker

VOCABULARY = 13
STEPPERS: dict[str, Any] = {
    "lstm": CarriedStepper,
    "lstmcell": CarriedStepper,
    "gru": CarriedStepper,
    "rnn": CarriedStepper,
    "transformer": GraphStepper,
    "transformer-xl": RingStepper,
    "reformer": HashStepper,
}
MANNERS = [
    {"temperature": "0"},
    {"temperature": "1"},
    {"temperature": "0.8", "top_k": 3},
    {"temperature": "0.8", "top_p": 0.7},
    {"temperature": "1.2", "min_p": 0.2},
    {"temperature": "1", "repetition_penalty": 1.5},
    {"temperature": "0", "repetition_penalty": 2.0},
    {"temperature": "1.2,0.3,0.9"},
    {"temperature": "1.3,0", "top_k": 5, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3},
]


def build(arch: str, window: int = 16, **settings: object) -> LanguageModel:
    """Always the same random weights."""
    torch.manual_seed(0)
    network = archs.load(arch)
    chosen = {"layers": 2, "hidden_size": 16, "dropout": 0.0, **settings}
    model = network(take(network.Config, chosen), DataSpec(VOCABULARY, Lengths.of_text(window))).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def prompt(length: int) -> Tensor:
    return torch.randint(VOCABULARY, (1, length), generator=torch.Generator().manual_seed(length))


def begun(model: LanguageModel, settings: SampleSettings, rows: int, start: int) -> tuple[Tensor, Picker]:
    """A prompt of so many tokens, and what picks those after it."""
    begin = prompt(start).to(next(model.parameters()).device)
    return begin, Picker(settings, streams(7, range(rows), begin.device), begin.expand(rows, -1))


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tokens at once, from the fourth one on, as on a GPU."""
    monkeypatch.setitem(unrolled.AHEAD, "cpu", 5)
    monkeypatch.setattr(unrolled, "ALONE", 3)


def written(
    model: LanguageModel,
    step: FixedStepper,
    settings: SampleSettings,
    *,
    rows: int = 2,
    start: int = 4,
    length: int = 40,
) -> tuple[list[list[int]], Tensor]:
    """(ids of every token, logits (T, B, V)) by the way that this device takes."""
    begin, pick = begun(model, settings, rows, start)
    steps = generate.fetched(islice(generate.generate(model, begin, pick, samples=rows, step=step), length))
    numbers, _, logits = zip(*steps, strict=True)
    return list(numbers), torch.stack(logits)


def token_by_token(
    model: LanguageModel, settings: SampleSettings, *, rows: int = 2, start: int = 4, length: int = 40
) -> tuple[list[list[int]], Tensor]:
    """The same, from the model's `step` and nothing else."""
    begin, pick = begun(model, settings, rows, start)
    state, token, numbers, logits = model.read(begin[:, :-1].expand(rows, -1)), begin[:, -1].expand(rows), [], []
    with torch.no_grad():
        for _ in range(length):
            guess, state = model.step(token, state)
            token = pick(guess)
            numbers.append(token.tolist())
            logits.append(guess)
    return numbers, torch.stack(logits)


@pytest.mark.parametrize("arch", STEPPERS)
@pytest.mark.usefixtures("many")
def test_every_architecture_writes_the_same_in_many_steps_at_once(arch: str) -> None:
    """From prompts of any length, past windows that no number of steps divides, in one row and in several."""
    for window, rows, start in ((16, 2, 4), (13, 1, 1), (11, 3, 30)):
        model = build(arch, window)
        step = STEPPERS[arch](model, rows)
        for settings in (SampleSettings("1"), SampleSettings(**MANNERS[-1])):  # type: ignore[arg-type]
            expected, guesses = token_by_token(model, settings, rows=rows, start=start)
            ids, logits = written(model, step, settings, rows=rows, start=start)
            assert ids == expected
            torch.testing.assert_close(logits, guesses, atol=1e-4, rtol=1e-4)
            assert sorted(step.unrolled.graphs) == [1, 5]


@pytest.mark.parametrize("manner", MANNERS, ids=str)
@pytest.mark.usefixtures("many")
def test_every_manner_of_picking_is_the_same_in_many_steps_at_once(manner: dict[str, Any]) -> None:
    """A penalty forgets what is older than it looks back on, also of a long prompt."""
    model, settings = build("gru"), SampleSettings(**manner)
    step = CarriedStepper(model, 3)
    for start, length in ((2, 2 * MEMORY), (2 * MEMORY, 20)):
        expected, _ = token_by_token(model, settings, rows=3, start=start, length=length)
        assert written(model, step, settings, rows=3, start=start, length=length)[0] == expected


@pytest.mark.usefixtures("many")
def test_what_was_recorded_serves_every_temperature_and_is_made_anew_for_another_filter() -> None:
    model = build("gru")
    step = CarriedStepper(model, 2)

    def graphs(settings: SampleSettings) -> dict[int, Recorded]:
        assert written(model, step, settings)[0] == token_by_token(model, settings)[0]
        return dict(step.unrolled.graphs)

    first = graphs(SampleSettings("0.5", top_k=4))
    assert graphs(SampleSettings("1.5", top_k=4)) == first
    assert graphs(SampleSettings("1.5", top_k=3)).items().isdisjoint(first.items())


@pytest.mark.usefixtures("many")
def test_a_choice_that_needs_the_host_is_made_there() -> None:
    model = build("gru")
    step = CarriedStepper(model, 1)
    pick = SharedPicker(SampleSettings("1"), 0, [bytes([id]) for id in range(VOCABULARY)])
    ids = [ids.tolist() for ids, _ in islice(generate.generate(model, prompt(3), pick, step=step), 20)]
    assert step.unrolled is None
    pick = SharedPicker(SampleSettings("1"), 0, [bytes([id]) for id in range(VOCABULARY)])
    plain = generate.generate(model, prompt(3), pick, step=PlainStepper(model))
    assert ids == [ids.tolist() for ids, _ in islice(plain, 20)]


def write_on_a_gpu() -> None:
    """Rounding may turn a choice, from which on a row goes its own way."""
    for arch, kind in STEPPERS.items():
        model = build(arch, 48).cuda()
        step = model.stepper(3)
        assert type(step) is kind
        for settings in (SampleSettings("1"), SampleSettings(**MANNERS[-1])):  # type: ignore[arg-type]
            expected = torch.tensor(token_by_token(model, settings, rows=3, length=150)[0])
            for _ in range(2):
                ids = torch.tensor(written(model, step, settings, rows=3, length=150)[0])
                assert (ids == expected).long().cummin(0).values.float().mean() > 0.5, arch
        assert sorted(step.unrolled.graphs) == [1, unrolled.AHEAD["cuda"]]  # type: ignore[attr-defined]


@pytest.mark.gpu
def test_graphs_of_many_steps_write_the_same_on_a_gpu() -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    code = "from test_unrolled import write_on_a_gpu; write_on_a_gpu()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, check=True)
