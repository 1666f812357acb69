"""The energy that a computation takes: counted by the device where it has a counter, or else estimated.

A graphics card's counter is read with NVIDIA's library (`pip install nvidia-ml-py`), a processor's from Linux (RAPL),
which wants permission. Without a counter energy is time x an assumed power, and whoever reports it says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import torch

ASSUMED_WATTS = {  # under load, by their makers' data sheets
    "cpu": 65.0,  # a desktop's processor (AMD Ryzen 5 7600, Intel Core i5-12400)
    "cuda": 350.0,  # NVIDIA RTX 3090, H100 PCIe
    "mps": 39.0,  # the whole of a Mac mini with an M1
}
THEN = ", then "  # between the sources of a training that went on elsewhere
POWERCAP = Path("/sys/class/powercap")


class Energy(NamedTuple):
    wh: float  # watt-hours
    source: str  # how it is known


class Power(NamedTuple):
    watts: float
    source: str  # how it is known


class Counter(NamedTuple):
    """Joules since some moment. At `limit` it begins again at 0."""

    name: str
    read: Callable[[], float]  # raises `OSError`
    limit: float = math.inf


class Meter:
    """Measures or estimates what `devices` alike take from its making on.

    To be read every quarter of an hour or more often: a processor's counter begins anew after some 260 kJ.
    """

    def __init__(
        self,
        device: torch.device,
        devices: int = 1,
        counters: list[Counter] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`counters` are by default those of the device."""
        self.device, self.devices, self.clock = device, devices, clock
        self.counters = find_counters(device) if counters is None else counters
        self.joules, self.before = 0.0, Energy(0.0, "")
        self.time, self.counts = clock(), [counter.read() for counter in self.counters]

    def read(self) -> Energy:
        """What was spent so far."""
        now = self.clock()
        try:
            counts = [counter.read() for counter in self.counters]
            limits = [counter.limit for counter in self.counters]
            spent = [(new - old) % limit for new, old, limit in zip(counts, self.counts, limits, strict=True)]
        except OSError:  # it went away; the training goes on
            self.counters, counts, spent = [], [], []
        if not self.counters:
            spent = [(now - self.time) * ASSUMED_WATTS[self.device.type]]
        self.joules += sum(spent) * self.devices
        self.time, self.counts = now, counts
        earlier = [source for source in self.before.source.split(THEN) if source]
        return Energy(self.before.wh + self.joules / 3600, THEN.join(dict.fromkeys([*earlier, self.source])))

    @property
    def source(self) -> str:
        """How it is known, in words."""
        assumed = f"estimated at {ASSUMED_WATTS[self.device.type]:g} W"
        known = f"measured by {self.counters[0].name}" if self.counters else assumed
        return f"{known}, times {self.devices}" if self.devices > 1 else known

    def resume(self, earlier: Mapping[str, Any] | None) -> None:
        """Add what an earlier part of the same work took, from the fields of an `Energy`."""
        if earlier:
            self.before = Energy(**earlier)


def assumed_power(device: torch.device) -> Power:
    return Power(ASSUMED_WATTS[device.type], "estimated")


def find_counters(device: torch.device) -> list[Counter]:
    """Those of a device that can be read: of a machine with several processors one for each."""
    kinds = {"cuda": lambda: card_counters(device), "cpu": processor_counters}
    counters = kinds.get(device.type, list[Counter])()
    try:
        for counter in counters:
            counter.read()
    except OSError:
        return []
    return counters


def card_counters(device: torch.device) -> list[Counter]:
    """The counter of an NVIDIA card, Volta or later."""
    try:
        import pynvml
    except ImportError:
        return []

    def joules() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000
        except pynvml.NVMLError as error:
            raise OSError(str(error)) from None

    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError:
        return []
    return [Counter("the GPU", joules)]


def processor_counters(folder: Path = POWERCAP) -> list[Counter]:
    """The counters of the processors of a machine with Linux; without permission to read them none."""
    counters = []
    for zone in sorted(folder.glob("intel-rapl:[0-9]")):  # AMD's too
        with suppress(OSError, ValueError):
            if (zone / "name").read_text().startswith("package"):  # others are parts of these, or the whole machine
                limit = microjoules(zone / "max_energy_range_uj")
                counters.append(Counter("the processor", partial(microjoules, zone / "energy_uj"), limit))
    return counters


def microjoules(file: Path) -> float:
    """The joules in a file of microjoules."""
    return int(file.read_text()) / 1e6
