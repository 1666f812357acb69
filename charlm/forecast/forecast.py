"""What a training will need: parameters, memory, work, time, energy and money, before it is begun."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from charlm import archs, device, kinds
from charlm.config import DataSpec
from charlm.energy import Power
from charlm.errors import SettingsError, out_of_memory
from charlm.forecast.size import Size
from charlm.forecast.speed import STEPS, WARM_UP, Speed, assumed_speed, measured_speed
from charlm.kinds._base import AnyCorpus
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.text.vocabulary import Vocabularies
from charlm.text.windows import Windows
from charlm.training.loop import Batches

LONGEST_PROBE = 60.0  # seconds that it may be expected to take


class Data(NamedTuple):
    batches: Batches
    spec: DataSpec
    epoch_tokens: int | None  # None: there is no text
    notes: list[str]


@dataclass(frozen=True)
class Forecast:
    plan: Plan
    place: torch.device
    size: Size
    speed: Speed
    why: str  # the speed is assumed; empty if it was measured
    epoch_tokens: int | None
    devices: int
    power: Power  # of one device
    price: float | None  # of an hour of one device
    notes: list[str]

    @property
    def share(self) -> float:
        """Of the speed of a large matrix product."""
        return self.speed.tokens_per_second * self.size.flops_per_token / self.speed.limit

    @property
    def available(self) -> int | None:
        """Bytes of memory of one device."""
        return device.memory(self.place)

    @property
    def needed(self) -> int | None:
        """The devices whose memory holds weights, gradients and what the optimizer keeps, if these are spread."""
        return self.available and math.ceil(self.size.memory.lasting / self.available)

    @property
    def tokens(self) -> float | None:
        """That the budget is enough for. None: epochs of a text that is not known."""
        train = self.plan.train
        if train.minutes is not None:
            return 60 * train.minutes * self.devices * self.speed.tokens_per_second
        if train.steps is not None:
            return train.steps * self.size.tokens_per_step
        return self.epoch_tokens and train.epochs and self.epoch_tokens * train.epochs

    @property
    def steps(self) -> int | None:
        return None if self.tokens is None else math.ceil(self.tokens / self.size.tokens_per_step)

    @property
    def epochs(self) -> float | None:
        return self.plan.train.epochs or (self.tokens and self.epoch_tokens and self.tokens / self.epoch_tokens)

    @property
    def flops(self) -> float | None:
        return self.tokens and self.tokens * self.size.flops_per_token

    @property
    def device_hours(self) -> float | None:
        """Of training steps, of all devices together."""
        return self.tokens and self.tokens / self.speed.tokens_per_second / 3600

    @property
    def hours(self) -> float | None:
        """On all devices, if these are as fast together as one is so many times."""
        return self.device_hours and self.device_hours / self.devices

    @property
    def kwh(self) -> float | None:
        return self.device_hours and self.device_hours * self.power.watts / 1000

    @property
    def cost(self) -> float | None:
        return self.price and self.device_hours and self.device_hours * self.price

    def to_json(self) -> dict[str, Any]:
        size, memory = self.size, self.size.memory
        return {
            "arch": self.plan.arch,
            "vocab_size": size.vocabulary,
            "parameters": {"total": size.parameters, "parts": size.parts},
            "memory": {
                **memory._asdict(),
                "total": memory.total,
                "available": self.available,
                "measured": self.speed.peak_memory,
            },
            "work": {
                "multiply_adds": size.multiply_adds,
                "flops_per_token": size.flops_per_token,
                "flops": self.flops,
            },
            "speed": {
                "tokens_per_second": self.speed.tokens_per_second,
                "steps_timed": self.speed.steps,
                "assumed_because": self.why or None,
                "share": self.share,
                "limit": self.speed.limit,
                "precision": self.speed.precision,
                "where": self.speed.where,
            },
            "budget": {
                "steps": self.steps,
                "tokens": self.tokens,
                "epochs": self.epochs,
                "hours": self.hours,
                "device_hours": self.device_hours,
            },
            "devices": {"given": self.devices, "needed": self.needed},
            "energy": {**self.power._asdict(), "kwh": self.kwh},
            "cost": {"per_device_hour": self.price, "total": self.cost},
            "notes": self.notes,
        }


def forecast(
    plan: Plan,
    corpus: AnyCorpus | None,
    *,
    vocabularies: Vocabularies | None = None,
    cache_dir: Path | None = None,
    probe: bool = True,
    devices: int = 1,
    watts: float | None = None,
    price: float | None = None,
) -> Generator[Progress, None, Forecast]:
    """Of a training on `corpus`; without one, of a running text whose vocabulary is as large as the plan allows.

    `vocabularies` are those of a run to start from; `watts` and `price` are of one device, and of an hour of it. Raises
    `SettingsError` for what the device cannot hold or compute, `CorpusError` for a text that is too short.
    """
    place = device.choose_device(plan.train.device)
    data = (yield from read(plan, corpus, vocabularies, cache_dir)) if corpus else invented(plan)
    yield Progress("counting", 0, 1)
    size, network = Size.of(plan, data.batches, data.spec), archs.load(plan.arch)
    if probe and corpus:
        refuse_what_cannot_fit(plan, size, place)
    yield Progress("measuring a matrix product", 0, 1)
    speed = assumed_speed(plan, network, size.flops_per_token, place)
    tried, why = (None, "not tried") if not probe else plan_to_try(plan, size, speed, place)
    if tried:
        speed = yield from try_steps(tried, data, size, place)
    power = Power(watts, "as given") if watts else speed.power
    return Forecast(plan, place, size, speed, why, data.epoch_tokens, devices, power, price, data.notes)


def read(
    plan: Plan, corpus: AnyCorpus, vocabularies: Vocabularies | None, cache_dir: Path | None
) -> Generator[Progress, None, Data]:
    kind = kinds.load(plan.kind)
    store = yield from kind.prepare(corpus, plan.data, cache_dir, vocabularies)
    batches, shortened = store.batches(plan.train), kind.shortened(store, plan.train)
    notes = [*store.notes, *([shortened] if shortened else [])]
    return Data(batches, store.spec(plan.train), batches.epoch_tokens, notes)


def invented(plan: Plan) -> Data:
    """Random tokens, for a plan without a text."""
    train, tokenizer = plan.train, plan.data.tokenizer
    if tokenizer == "char":
        raise SettingsError(
            "what text? Its characters are the vocabulary: charlm plan FILE; without one plan what has a vocabulary of "
            "known size, such as --preset gpt2, or --tokenizer bytebpe with --vocab-size"
        )
    vocabulary = 256 if tokenizer == "byte" else plan.data.vocab_size
    ids = np.random.default_rng(0).integers(vocabulary, size=train.batch_size * train.seq_len + 1, dtype=np.uint32)
    windows = Windows(ids, batch_size=train.batch_size, seq_len=train.seq_len, order=train.order, seed=train.seed)
    return Data(windows, DataSpec(vocabulary, plan.lengths), None, [])


def plan_to_try(plan: Plan, size: Size, assumed: Speed, place: torch.device) -> tuple[Plan | None, str]:
    """(the plan whose steps are to be tried, why none are). Batches are not accumulated where that takes too long."""
    available = device.memory(place)
    if available and (size.memory.lasting if place.type == "cuda" else size.memory.total) > available:
        return None, f"not tried, as it would not fit; {advice(plan, size, available)}"
    seconds = (WARM_UP + STEPS) * size.tokens_per_step / assumed.tokens_per_second
    if seconds <= LONGEST_PROBE:
        return plan, ""
    if seconds / plan.train.accumulate <= LONGEST_PROBE:
        return replace(plan, train=replace(plan.train, accumulate=1)), ""
    return None, f"not tried, as {WARM_UP + STEPS} steps would take some {seconds / 60:,.0f} minutes"


def try_steps(plan: Plan, data: Data, size: Size, place: torch.device) -> Generator[Progress, None, Speed]:
    """As `measured_speed`. Raises `SettingsError` where the device has too little memory."""
    try:
        return (yield from measured_speed(plan, data.batches, data.spec))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    raise SettingsError(lack_of_memory(plan, size, place))


def refuse_what_cannot_fit(plan: Plan, size: Size, place: torch.device) -> None:
    """Raise `SettingsError` if not even weights, gradients and the optimizer's state fit."""
    available = device.memory(place)
    if available and size.memory.lasting > available:
        raise SettingsError(f"{lack_of_memory(plan, size, place)}; --no-probe plans it all the same")


def lack_of_memory(plan: Plan, size: Size, place: torch.device) -> str:
    available = device.memory(place) or 0
    needs = f"{size.parameters:,} parameters and a batch need about {size.memory.total / 1e9:.1f} GB to train"
    return f"{needs} and {place.type} has {available / 1e9:.1f}; {advice(plan, size, available)}"


def advice(plan: Plan, size: Size, available: int) -> str:
    """What to make smaller, so that it fits into so many bytes."""
    share = (available - size.memory.lasting) / max(size.memory.activations, 1)
    if share <= 0:
        return "give a smaller --hidden-size or fewer --layers"
    return f"with {share:.1%} of a batch it may: give a smaller {plan.batch_flags}"
