"""What `auto` becomes."""

from __future__ import annotations

import pytest
import torch

from charlm import archs, device
from charlm.config import TrainSettings
from charlm.device import settle

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def a_compiler_and_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(device, "can_compile", lambda _: True)
    monkeypatch.setattr(device, "multiplies_bf16", lambda _: True)


@pytest.mark.parametrize(
    ("asked", "compiles", "becomes"),
    [
        ({"minutes": 5.0}, True, "off"),
        ({"minutes": 30.0}, True, "on"),
        ({"minutes": 30.0}, False, "off"),  # an architecture that gains nothing
        ({"steps": 10**6}, True, "off"),  # nobody knows how long that takes
        ({"minutes": 30.0, "compile": "off"}, True, "off"),
        ({"steps": 10, "compile": "on"}, False, "on"),
    ],
)
def test_a_long_budget_is_compiled_where_it_pays(asked: dict[str, object], compiles: bool, becomes: str) -> None:
    settled, line = settle(TrainSettings(**asked), CPU, bf16_pays=False, compiles=compiles)  # type: ignore[arg-type]
    assert settled.compile == becomes
    assert ("compiled" in line) == (becomes == "on")


def test_without_a_compiler_training_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "can_compile", lambda _: False)
    settled, line = settle(TrainSettings(steps=1, compile="on"), CPU, bf16_pays=False, compiles=True)
    assert settled.compile == "off"
    assert "not compiled: torch.compile finds no working compiler here" in line


@pytest.mark.parametrize(("pays", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_chosen_where_it_pays(pays: bool, precision: str) -> None:
    settled, line = settle(TrainSettings(steps=1), CPU, bf16_pays=pays, compiles=False)
    assert settled.precision == precision
    assert precision in line
    assert settle(TrainSettings(steps=1, precision="fp32"), CPU, bf16_pays=True, compiles=False)[0].precision == "fp32"


def test_a_gpu_takes_bf16_at_any_size_of_a_kind_that_gains_and_a_cpu_from_one_on() -> None:
    cuda = torch.device("cuda")
    lstm, gru = archs.load("lstm"), archs.load("gru")
    assert [device.bf16_pays(lstm, size, CPU) for size in (191, 192)] == [False, True]
    assert [device.bf16_pays(kind, 8, cuda) for kind in (lstm, gru)] == [True, False]
    assert not device.bf16_pays(gru, 65_536, CPU)
