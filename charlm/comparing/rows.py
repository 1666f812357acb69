"""The rows of a comparison, from finished trainings, and a verdict on whether their differences mean anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import Any, NamedTuple

from charlm.kinds._base import Band, Trial
from charlm.runs.standing import Point
from charlm.score import BITS, Measure, Score

# Student's t, two-sided 95 %, by degrees of freedom from 1
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
T95_LARGE = 1.96
EXAMPLES = 6  # pairs that are shown
SEED_NOISE = 0.07  # bits per byte between two seeds of one model after a minute of training (docs/results.md)


NO_TRIAL = Trial()


@dataclass
class Trained:
    """One finished training, measured."""

    run: Path
    seed: int
    score: Score
    params: int
    multiply_adds: int | None  # per token; of a run that was made before they were counted None
    train_speed: float  # characters per second
    peak_memory: int | None
    tokens_seen: int
    seconds: float
    curve: list[Point] = field(default_factory=list)
    trial: Trial = NO_TRIAL
    start: str | None = None  # the run whose weights it started from
    label_count: int | None = None  # labelled texts that it was to learn from; None: all, or none at all

    @property
    def figures(self) -> dict[str, Any]:
        """All figures by name, the score under the name of its measure."""
        score, measure = self.score, self.score.measure
        return {
            "run": str(self.run),
            "seed": self.seed,
            "start": self.start,
            "label_count": self.label_count,
            measure.name: score.value,
            "nats_per_char": score.nats_per_char,
            "params": self.params,
            "multiply_adds": self.multiply_adds,
            "context": score.context,
            "train_speed": self.train_speed,
            "write_speed": self.trial.speed,
            "peak_memory": self.peak_memory,
            "tokens_seen": self.tokens_seen,
            "seconds": self.seconds,
            "bytes": score.bytes,
            "chars": score.chars,
            **self.trial.figures,
        }

    def reached(self, target: float) -> float | None:
        """Seconds of training up to the first validation as good as `target`; None if none was."""
        better = self.score.measure.better
        return next((point.seconds for point in self.curve if not better(target, point.value)), None)

    def to_dict(self) -> dict[str, Any]:
        return {**self.figures, "curve": self.curve, **self.trial.to_json()}


@dataclass
class Row:
    """One model of the comparison, trained with one or more seeds."""

    label: str
    trained: list[Trained]
    failures: list[str]  # a reason for every training that failed
    line: str = ""  # what it is called together with those that learnt from more or fewer labelled texts
    count: int | None = None  # labelled texts that it learnt from, if rows differ in that

    def value(self, name: str) -> float | None:
        """The mean of a figure over the trainings; None if it is unknown."""
        return mean(training.figures.get(name) for training in self.trained)

    @property
    def bands(self) -> list[Band]:
        """Quality by source length: means over the trainings, which all translated the same pairs."""
        means: list[Band] = []
        for bands in zip(*(training.trial.bands for training in self.trained), strict=True):
            names = [name for name in Band._fields if name not in ("shortest", "longest", "pairs")]
            means.append(bands[0]._replace(**{name: mean(getattr(band, name) for band in bands) for name in names}))
        return means

    @property
    def scores(self) -> list[float]:
        return [training.score.value for training in self.trained]

    @property
    def interval(self) -> float | None:
        """Half the width of the 95 % confidence interval of the mean over seeds; None for one seed."""
        return half_width(self.scores)

    def reached(self, target: float) -> float | None:
        """Mean seconds of training to `target`; None unless every seed reached it."""
        times = [training.reached(target) for training in self.trained]
        known = [time for time in times if time is not None]
        return fmean(known) if known and len(known) == len(times) else None

    def to_dict(
        self, measure: Measure, figures: Sequence[str], target: float | None, ngram6: float | None
    ) -> dict[str, Any]:
        """The row as JSON; `figures` are names of figures of its trials."""
        score = mean(self.scores)
        return {
            "model": self.label,
            "label_count": self.count,
            "seeds": len(self.trained),
            measure.name: score,
            "interval_95": self.interval,
            **{name: self.value(name) for name in (*MEANS, *figures)},
            "seconds_to_target": self.reached(target) if target is not None else None,
            "beats_6gram": score < ngram6 if score is not None and ngram6 is not None else None,
            "failures": self.failures,
            "runs": [training.to_dict() for training in self.trained],
        }


MEANS = (
    *("nats_per_char", "params", "multiply_adds", "train_speed", "write_speed", "peak_memory", "context"),
    *("tokens_seen", "seconds"),
)


class Example(NamedTuple):
    """A held-out pair, with what every model wrote."""

    source: str
    target: str
    written: dict[str, str]  # label -> translation by its first training


def examples(rows: Iterable[Row]) -> list[Example]:
    """A few of the translated pairs, from the shortest source to the longest."""
    trials = {row.label: row.trained[0].trial for row in rows if row.trained and row.trained[0].trial.written}
    if not trials:
        return []
    sources, targets = next((trial.sources, trial.targets) for trial in trials.values())
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    ranks = sorted({(len(order) - 1) * n // (EXAMPLES - 1) for n in range(EXAMPLES)})
    return [
        Example(sources[i], targets[i], {label: trial.written[i] for label, trial in trials.items()})
        for i in (order[rank] for rank in ranks)
    ]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % confidence interval of the mean; None for fewer than two values."""
    return student(len(values) - 1) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def student(degrees: float) -> float:
    """The 97.5 % quantile of Student's t; beyond the table that of fewer degrees of freedom, which is larger."""
    whole = max(1, math.floor(degrees))
    return T95[whole - 1] if whole <= len(T95) else T95_LARGE if whole > 200 else T95[-1]


def ranked(rows: Iterable[Row]) -> list[Row]:
    """The rows that were trained, best first."""
    trained = [row for row in rows if row.trained]
    more = bool(trained) and trained[0].trained[0].score.measure.more
    return sorted(trained, key=lambda row: fmean(row.scores), reverse=more)


def verdict(rows: Iterable[Row]) -> str:
    """A sentence on the difference between the best two rows, and whether it is more than chance."""
    best = ranked(rows)
    if not best:
        return "No training came to its end."
    if len(best) == 1:
        return f"{best[0].label} stands alone: nothing to compare it with."
    first, second = best[:2]
    measure, ahead = first.trained[0].score.measure, abs(fmean(second.scores) - fmean(first.scores))
    verb, than = ("reaches", "more") if measure.more else ("needs", "less")
    sentence = f"{first.label} {verb} {ahead:.3f} {measure.words} {than} than {second.label}"
    if min(len(first.scores), len(second.scores)) < 2:
        weight = "more than seeds usually change" if ahead > SEED_NOISE else "no more than another seed may change"
        return f"{sentence}{f', {weight}' if measure == BITS else ''}; one seed proves little: try --seeds 3."
    margin = welch(first.scores, second.scores)
    if ahead > margin:
        interval = f"(95 % interval: {ahead - margin:.3f} to {ahead + margin:.3f})"
        return f"{sentence} {interval}: more than the seeds explain."
    return f"{sentence}, but the seeds alone explain up to {margin:.3f}: no winner between these two."


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the difference of two means (Welch 1947, doi:10.1093/biomet/34.1-2.28)."""
    x, y = variance(a) / len(a), variance(b) / len(b)
    if x + y == 0:
        return 0.0
    degrees = (x + y) ** 2 / (x**2 / (len(a) - 1) + y**2 / (len(b) - 1))
    return student(degrees) * math.sqrt(x + y)
