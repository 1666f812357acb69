"""One text is written on the processor that is faster for its model."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch

import charlm
from charlm.sampling.faster import seconds_per_token
from charlm.sampling.settings import Request, SampleSettings
from charlm.writer import Writer

Typed = Callable[..., tuple[int, str, str]]
REQUEST = Request("1", length=20, seed=0)


def on_a_gpu(run: Path) -> Writer:
    """It says that it is on one."""
    writer = charlm.load(run, device="cpu")
    writer.device = torch.device("mps")
    return writer


@pytest.mark.parametrize(("gpu", "cpu", "taken"), [(0.002, 0.001, "cpu"), (0.001, 0.002, "mps")])
def test_it_moves_to_the_cpu_only_where_that_is_faster(gpu: float, cpu: float, taken: str, trained: Path) -> None:
    writer = on_a_gpu(trained)
    first, text = writer.model, charlm.load(trained, device="cpu").sample(length=20)
    line = writer.move_to_faster(REQUEST, lambda model, _step, _settings: gpu if model is first else cpu)
    assert (writer.device.type, writer.model is first) == (taken, taken == "mps")
    assert line.index("1,000 on ") < line.index(", which writes; 500 on ")
    assert line.endswith("(--device mps)" if taken == "cpu" else "(--device cpu)")
    writer.device = torch.device("cpu")
    assert writer.sample(length=20) == text


def test_where_there_is_no_choice_nothing_is_measured(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, and with weights of which a CPU cannot read as many in the time of a GPU's step."""
    on_cpu, large = charlm.load(trained, device="cpu"), on_a_gpu(trained)
    monkeypatch.setattr("charlm.writer.LARGE", 10)
    for writer in (on_cpu, large):
        before = writer.model
        assert writer.move_to_faster(REQUEST, lambda *_: pytest.fail("measured")) == ""
        assert writer.model is before


def test_a_measured_token_takes_time_and_leaves_no_trace(trained: Path) -> None:
    writer = charlm.load(trained, device="cpu")
    text, weights = writer.sample(length=20), deepcopy(writer.model.state_dict())
    with writer.steppers.lent(1) as step:
        assert 0 < seconds_per_token(writer.model, step, SampleSettings()) < 1
    assert writer.sample(length=20) == text
    assert all(torch.equal(value, weights[name]) for name, value in writer.model.state_dict().items())


def test_what_came_out_is_a_note_beside_the_text(trained: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one text with `--device auto`, the default; JSON comes alone."""
    monkeypatch.setattr(Writer, "move_to_faster", lambda *_: "tokens of this model per second: 2; 1")

    def err(*words: str) -> str:
        code, _, err = typed("sample", trained, "--length", "3", *words)
        assert code == 0
        return err

    assert err() == err("--device", "auto") == "note: tokens of this model per second: 2; 1\n"
    assert err("--device", "cpu") == err("--samples", "2") == err("--json") == ""
