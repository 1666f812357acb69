"""From finished trainings to rows of a table, and to a line in words that says what the differences mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import TYPE_CHECKING, Any, NamedTuple

from charlm.runs import folder
from charlm.runs.folder import RunInfo

if TYPE_CHECKING:
    from charlm.translation import Band, Translated

# Student's t, two-sided 95 %, by degrees of freedom from 1
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
T95_LARGE = 1.96
QUALITY = ("exact", "bleu", "chrf")  # of translations
EXAMPLES = 6  # pairs that are shown
CHANCE = 0.07  # bits per byte by which single seeds of one model were seen to differ after a minute (docs/results.md)


class Point(NamedTuple):
    """One validation of one training."""

    seconds: float
    tokens: int  # shown so far
    step: int
    bits_per_byte: float


@dataclass
class Trained:
    """One finished training, measured."""

    run: Path
    seed: int
    bits_per_byte: float
    nats_per_char: float
    params: int
    context: int
    train_speed: float  # characters per second
    write_speed: float  # in one stream; of pairs, where many are translated at once
    peak_memory: int | None
    tokens_seen: int
    seconds: float
    bytes: int  # that it was scored on
    chars: int
    curve: list[Point] = field(default_factory=list)
    translated: Translated | None = None  # the held-out pairs

    def reached(self, target: float) -> float | None:
        """Seconds of training until a validation was as good as `target`; None if none was."""
        return next((point.seconds for point in self.curve if point.bits_per_byte <= target), None)

    def to_dict(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name != "translated"} | {"run": str(self.run)}
        return own | (self.translated.to_json() if self.translated else {})


@dataclass
class Row:
    """One kind of model: its trainings, or why there are none."""

    label: str
    trained: list[Trained]
    failures: list[str]

    def mean(self, name: str) -> float | None:
        return mean(getattr(each, name) for each in self.trained)

    def quality(self, name: str) -> float | None:
        """Of what its trainings translate; None where that is not known, and of running text."""
        return mean(getattr(each.quality, name) for each in self.translated)

    @property
    def translated(self) -> list[Translated]:
        return [each.translated for each in self.trained if each.translated]

    @property
    def bands(self) -> list[Band]:
        """Quality by source length, the mean of its trainings, which all translated the same pairs."""
        found: list[Band] = []
        for same in zip(*(translated.bands for translated in self.translated), strict=True):
            means = {name: mean(getattr(band, name) for band in same) for name in ("nats_per_token", *QUALITY)}
            found.append(same[0]._replace(**means))
        return found

    @property
    def bits(self) -> list[float]:
        return [each.bits_per_byte for each in self.trained]

    @property
    def interval(self) -> float | None:
        """Half the width of the 95 % confidence interval of the mean over seeds; None for one seed."""
        return half_width(self.bits)

    def reached(self, target: float) -> float | None:
        """Mean seconds to `target`; None unless every seed got there."""
        times = [each.reached(target) for each in self.trained]
        known = [time for time in times if time is not None]
        return fmean(known) if known and len(known) == len(times) else None

    def to_dict(self, target: float | None, ngram6: float | None) -> dict[str, Any]:
        bits = self.mean("bits_per_byte")
        means = {name: self.mean(name) for name in MEANS}
        means |= {name: self.quality(name) for name in QUALITY} if self.translated else {}
        return {
            "model": self.label,
            "seeds": len(self.trained),
            "bits_per_byte": bits,
            "interval_95": self.interval,
            **means,
            "seconds_to_target": self.reached(target) if target is not None else None,
            "beats_6gram": bits < ngram6 if bits is not None and ngram6 is not None else None,
            "failures": self.failures,
            "runs": [each.to_dict() for each in self.trained],
        }


MEANS = ("nats_per_char", "params", "train_speed", "write_speed", "peak_memory", "context", "tokens_seen", "seconds")


class Example(NamedTuple):
    """A held-out pair."""

    source: str
    target: str
    written: dict[str, str]  # label -> what its first training writes


def examples(rows: Iterable[Row]) -> list[Example]:
    """A few of the pairs that were translated, from the shortest source to the longest."""
    first = {row.label: row.translated[0] for row in rows if row.translated}
    if not first:
        return []
    sources, targets = next((each.sources, each.targets) for each in first.values())
    order = sorted(range(len(sources)), key=lambda at: len(sources[at]))
    places = sorted({(len(order) - 1) * n // (EXAMPLES - 1) for n in range(EXAMPLES)})
    return [
        Example(sources[at], targets[at], {label: each.written[at] for label, each in first.items()})
        for at in (order[place] for place in places)
    ]


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def half_width(values: Sequence[float]) -> float | None:
    return student(len(values) - 1) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t distribution, for fewer degrees of freedom where it is not tabled: safer."""
    whole = max(1, math.floor(freedom))
    return T95[whole - 1] if whole <= len(T95) else T95_LARGE if whole > 200 else T95[-1]


def curve_of(run: RunInfo) -> list[Point]:
    """What metrics.jsonl says of the validations."""
    points = []
    for said, _ in folder.metrics(run.path):
        with suppress(ValueError, KeyError, TypeError):
            seconds, step, bits = float(said["seconds"]), said["step"], float(said["bits_per_byte"])
            if math.isfinite(bits):
                points.append(Point(seconds, int(said["tokens"]), step, bits))
    return points


def verdict(rows: Iterable[Row]) -> str:
    """What the difference between the best two means, given the seeds."""
    ranked = sorted((row for row in rows if row.trained), key=lambda row: fmean(row.bits))
    if not ranked:
        return "No training came to its end."
    if len(ranked) == 1:
        return f"{ranked[0].label} stands alone: nothing to compare it with."
    first, second = ranked[:2]
    ahead = fmean(second.bits) - fmean(first.bits)
    told = f"{first.label} needs {ahead:.3f} bits per byte less than {second.label}"
    if min(len(first.bits), len(second.bits)) < 2:
        weight = "more than seeds usually change" if ahead > CHANCE else "no more than another seed may change"
        return f"{told}, {weight}; one seed proves little: try --seeds 3."
    margin = welch(first.bits, second.bits)
    if ahead > margin:
        return f"{told} (95 % interval: {ahead - margin:.3f} to {ahead + margin:.3f}): more than the seeds explain."
    return f"{told}, but the seeds alone explain up to {margin:.3f}: no winner between these two."


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Half the 95 % interval of the difference of two means (Welch 1947, doi:10.1093/biomet/34.1-2.28)."""
    x, y = variance(a) / len(a), variance(b) / len(b)
    if x + y == 0:
        return 0.0
    freedom = (x + y) ** 2 / (x**2 / (len(a) - 1) + y**2 / (len(b) - 1))
    return student(freedom) * math.sqrt(x + y)
