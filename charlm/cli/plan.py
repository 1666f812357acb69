"""`charlm plan`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.asking import errors_name_source, make_plan, open_origin, requested
from charlm.cli.options import Json
from charlm.cli.planning import (
    Arch,
    CacheDir,
    Config,
    Files,
    InitFrom,
    ObjectiveName,
    Preset,
    Source,
    Target,
    with_plan,
)
from charlm.views.console import count, duration, note, show, table, watch, watt_hours

if TYPE_CHECKING:
    from charlm.forecast.forecast import Forecast

DAY = 24.0  # hours
YEAR = 365.25 * DAY
Row = tuple[str, str, str]  # what, how much, and how that is known


def command(argv: Sequence[str]) -> Callable[..., None]:
    return with_plan("plan", plan, argv)


def plan(
    corpus: Files = None,
    source: Source = None,
    target: Target = None,
    arch: Arch = None,
    objective: ObjectiveName = None,
    preset: Preset = None,
    config: Config = None,
    init_from: InitFrom = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="try some steps; without them the speed is assumed")
    ] = True,
    devices: Annotated[int, typer.Option(help="devices that share the work", min=1, max=1_000_000)] = 1,
    price: Annotated[
        float | None,
        typer.Option(help="of an hour of one device, in any currency", min=0, max=1_000_000, show_default=False),
    ] = None,
    watts: Annotated[
        float | None,
        typer.Option(
            help="power of one device \\[default: as measured while trying, or estimated]",
            min=0.1,
            max=1_000_000,
            show_default=False,
        ),
    ] = None,
    cache_dir: CacheDir = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from charlm.forecast.forecast import forecast
    from charlm.plan import Plan

    origin = open_origin(init_from)
    layers, typed, on = requested(given, arch, objective, preset, config, origin)
    with errors_name_source(layers, typed, plan):
        if corpus or source or target or origin:
            training, text = make_plan([*layers.values(), typed], corpus, source, target, origin, on)
        else:
            training, text = Plan.of(*layers.values(), typed, on=on), None
    asked: Any = {"probe": probe, "devices": devices, "watts": watts, "price": price, "cache_dir": cache_dir}
    result = watch(forecast(training, text, vocabularies=origin.vocabularies if origin else None, **asked))
    if json:
        print(jsonlib.dumps(result.to_json()))
        return
    for message in result.notes:
        note(message)
    rows = table("", ">", "")
    rows.show_header = False
    for row in [*size_rows(result), *work_rows(result), *budget_rows(result)]:
        rows.add_row(*row)
    show(rows)


def size_rows(result: Forecast) -> Iterator[Row]:
    """Parameters and memory, in all and by part."""
    size, memory, available = result.size, result.size.memory, result.available
    yield "parameters", f"{size.parameters:,}", f"{result.plan.arch}, {size.vocabulary:,} different tokens"
    for name, number in size.parts.items():
        yield f"  {name}", f"{number:,}" if number else "shared", ""
    yield "memory", gigabytes(memory.total), f"of {gigabytes(available)}" if available else ""
    remarks = {"optimizer": result.plan.train.optimizer, "activations": "about, of a batch, kept for the backward pass"}
    for name, number in memory._asdict().items():
        if number:
            yield f"  {name}", gigabytes(number), remarks.get(name, "")
    if peak := result.speed.peak_memory:
        yield "  measured", gigabytes(peak), "the most while steps were tried"
    if result.needed and result.needed > 1:
        yield (
            "devices",
            f"{result.needed:,}",
            "at least, to hold all of it but activations; --parallel fsdp needs half of it on each",
        )


def work_rows(result: Forecast) -> Iterator[Row]:
    """Work and speed."""
    size, speed = result.size, result.speed
    work = f"{count(size.multiply_adds)} multiply-adds forward, twice as many back, 2 FLOP each"
    yield "work per token", flops(size.flops_per_token), work
    if result.flops:
        yield "work in all", flops(result.flops), ""
    share = f"{result.share:.0%} of a matrix product's {flops(speed.limit)}/s in {speed.precision}"
    known = f"in {speed.steps} steps on {speed.where}: {share}" if speed.steps else f"assumed: {share}; {result.why}"
    yield (
        "tokens per second",
        count(speed.tokens_per_second) if speed.tokens_per_second > 100 else f"{speed.tokens_per_second:.2g}",
        known,
    )


def budget_rows(result: Forecast) -> Iterator[Row]:
    """Steps, time, energy and money."""
    if result.tokens is None or result.device_hours is None or result.hours is None or result.kwh is None:
        yield "budget", f"{result.epochs:g} epochs", "of which text? its size makes steps and time: charlm plan FILE"
        return
    yield "steps", f"{result.steps:,}", f"of {result.size.tokens_per_step:,.0f} tokens"
    epochs = f"{result.epochs:,.3g} times the training part" if result.epochs else ""
    yield "tokens", count(result.tokens), epochs
    yield "time", span(result.hours), ", ".join(other_times(result, result.device_hours))
    power = result.power
    yield "energy", watt_hours(1000 * result.kwh), f"at {power.watts:.3g} W, {power.source}"
    if result.cost is not None:
        yield "cost", f"{result.cost:,.2f}", f"at {result.price:g} for an hour of one device"


def other_times(result: Forecast, alone: float) -> Iterator[str]:
    """On how many devices the time is meant, and what it is on others; `alone` are the hours on one device."""
    yield f"on {result.devices:,} devices, if they lose nothing" if result.devices > 1 else "of training steps"
    if result.devices > 1:
        yield f"{span(alone)} on one"
    if result.needed and result.needed > 1 and result.needed != result.devices:
        yield f"{span(alone / result.needed)} on {result.needed:,}"


def span(hours: float) -> str:
    """`42 s`, `2 h 10 min`, `12.5 days`, `3.1 years`."""
    if hours < 2 * DAY:
        return duration(3600 * hours)
    years = hours / YEAR
    return f"{hours / DAY:,.1f} days" if years < 2 else f"{years:,.{0 if years >= 100 else 1}f} years"


def gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def flops(number: float) -> str:
    """`5.2 MFLOP`, `3.2e23 FLOP`."""
    for limit, letter in ((1e18, ""), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.3g} {letter}FLOP" if letter else f"{number:.3g} FLOP"
    return f"{number:.0f} FLOP"
