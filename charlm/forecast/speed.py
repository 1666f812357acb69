"""How fast a training will be: some of its steps, timed, or else a share of the speed of a matrix product."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch

from charlm import device
from charlm.config import DataSpec
from charlm.energy import Meter, Power, assumed_power
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.training.loop import Batches, Trainer

WARM_UP, WARM_UP_SECONDS = (
    5,
    10.0,
)  # steps in a row, not timed, in which no kernel is chosen and nothing recorded any more
STEPS, LEAST_SECONDS, MOST_SECONDS = 20, 1.0, 30.0  # of those that are
ASSUMED_SHARE = 0.4  # large trainings reached 0.21 to 0.46 (Chowdhery et al. 2022, arXiv:2204.02311, table 3)


class Speed(NamedTuple):
    """That of one device."""

    tokens_per_second: float
    steps: int  # that were timed; 0: it is assumed
    limit: float  # FLOP/s of a large matrix product in this precision, measured in the same run
    precision: str
    where: str  # device, precision and why, for people
    power: Power
    peak_memory: int | None = None  # bytes, of a GPU


def assumed_speed(plan: Plan, network: type, flops_per_token: float, place: torch.device) -> Speed:
    """`ASSUMED_SHARE` of what a matrix product reaches."""
    precision = plan.train.precision
    if precision == "auto":
        bf16 = device.bf16_is_faster(network, getattr(plan.model, "hidden_size", 0), place)
        precision = "bf16" if bf16 and device.multiplies_bf16(place) else "fp32"
    limit = matrix_product_speed(place, precision)
    where = f"{place.type}, {precision}"
    return Speed(ASSUMED_SHARE * limit / flops_per_token, 0, limit, precision, where, assumed_power(place))


def measured_speed(plan: Plan, batches: Batches, spec: DataSpec) -> Generator[Progress, None, Speed]:
    """That of some steps of the training, whatever its budget. Raises what `Trainer.from_plan` raises."""
    yield Progress("building the model", 0, STEPS)
    trainer = Trainer.from_plan(plan, batches, spec)
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    trainer.settings = replace(trainer.settings, minutes=None, steps=10**9, epochs=None)
    if trainer.settings.compile == "on":
        yield Progress("compiling", 0, STEPS)
        trainer.compile()
    steps, position = iter(trainer), trainer.position
    warm, recorded = 0, 0
    while warm < WARM_UP and position.clock.seconds < WARM_UP_SECONDS:
        yield Progress("warming up", 0, STEPS)
        next(steps)
        warm = warm + 1 if trainer.recorder.recorded == recorded else 0  # of pairs many shapes are recorded
        recorded = trainer.recorder.recorded
    trainer.pause()
    peak = device.peak_memory(trainer.device) if trainer.device.type == "cuda" else None
    tokens, began, meter = position.tokens, position.clock.seconds, Meter(trainer.device)
    number, seconds = 0, 0.0
    while (number < STEPS or seconds < LEAST_SECONDS) and seconds < MOST_SECONDS:
        yield Progress("trying steps", min(number, STEPS), STEPS)
        next(steps)
        number += 1
        if number % STEPS == 0:
            trainer.pause()  # a GPU may have only been given them
        seconds = position.clock.seconds - began
    trainer.pause()
    seconds, energy = position.clock.seconds - began, meter.read()
    measured = Power(3600 * energy.wh / seconds, meter.source) if meter.counters else None
    precision = trainer.settings.precision
    return Speed(
        tokens_per_second=(position.tokens - tokens) / seconds,
        steps=number,
        limit=matrix_product_speed(trainer.device, precision),
        precision=precision,
        where=trainer.where,
        power=measured or assumed_power(trainer.device),
        peak_memory=peak,
    )


@cache
def matrix_product_speed(place: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product: the best of several, because other programs can only make it slower."""
    size = 2048 if place.type == "cpu" else 8192
    x = torch.randn(size, size, device=place, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    product, times = torch.empty_like(x), list[float]()
    while len(times) < 3 or sum(times) < 0.5:
        began = time.perf_counter()
        torch.mm(x, x, out=product)
        if place.type != "cpu":
            torch.accelerator.synchronize(x.device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)
