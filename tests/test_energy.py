"""What a training took, by a counter or by an assumed power."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clock import Time

from charlm.energy import ASSUMED_WATTS, Counter, Meter, processor_counters

Typed = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")
SMALL = ["--arch", "rnn", "--hidden-size", "16", "--seq-len", "16", "--batch-size", "4"]


def test_without_a_counter_energy_is_time_times_a_power_that_is_named() -> None:
    time = Time()
    meter = Meter(CPU, counters=[], clock=time)
    time.seconds += 3600
    assert meter.read() == (pytest.approx(ASSUMED_WATTS["cpu"]), "estimated at 65 W")
    time.seconds += 1800
    assert meter.read().wh == pytest.approx(1.5 * ASSUMED_WATTS["cpu"])


def test_a_counter_that_begins_again_loses_nothing_and_the_processors_of_a_machine_add_up() -> None:
    joules = [90.0, 10.0]
    counters = [Counter("the processor", lambda i=i: joules[i], limit=100.0) for i in (0, 1)]  # type: ignore[misc]
    meter = Meter(CPU, counters=counters)
    joules[:] = 30.0, 25.0  # 40 and 15 later
    assert meter.read() == (pytest.approx(55 / 3600), "measured by the processor")
    joules[:] = 10.0, 24.0  # 80 and 99 later
    assert meter.read().wh == pytest.approx((55 + 179) / 3600)


def test_several_devices_take_as_much_as_the_first_each() -> None:
    joules = iter([0.0, 3600.0])
    meter = Meter(torch.device("cuda"), 4, [Counter("the GPU", lambda: next(joules))])
    assert meter.read() == (4.0, "measured by the GPU, times 4")


def test_a_counter_that_goes_away_ends_no_training_and_what_follows_is_estimated() -> None:
    time = Time()

    def read() -> float:
        if time.seconds > 2000:
            raise OSError
        return 0.0

    meter = Meter(CPU, counters=[Counter("the processor", read)], clock=time)
    time.seconds += 3600
    assert meter.read() == (65.0, "estimated at 65 W")


def test_counters_of_processors_are_read_as_linux_shows_them(tmp_path: Path) -> None:
    """A package is a processor; its cores, its memory and the whole machine are counted elsewhere or in it."""
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:1": "package-1", "intel-rapl:2": "psys"}
    for number, (zone, name) in enumerate(zones.items()):
        (tmp_path / zone).mkdir()
        for file, content in {"name": name, "energy_uj": 7_500_000 + number, "max_energy_range_uj": 262_143}.items():
            (tmp_path / zone / file).write_text(f"{content}\n")
    counters = processor_counters(tmp_path)
    assert [(c.read(), c.limit) for c in counters] == [(7.5, 0.262143), (7.500002, 0.262143)]
    assert processor_counters(tmp_path / "nowhere") == []


def test_a_training_says_what_it_took_and_how_that_is_known(typed: Typed, verses: Path) -> None:
    code, out, error = typed("train", verses, *SMALL, "--steps", "20", "--stop-after", "10", "--out", "r")
    assert (code, error) == (0, "")
    first = json.loads(Path("r/training.json").read_text())["energy"]
    assert first["wh"] > 0
    code, out, _ = typed("train", "--resume", "r")
    whole = json.loads(Path("r/training.json").read_text())["energy"]
    assert whole["wh"] > first["wh"], "the part before counts"
    assert whole["source"] == first["source"]
    assert f"energy, with validations and samples: about {whole['wh']:.2g} Wh ({whole['source']})\n" in out
