"""What more labelled texts are worth to each model: a row per model, a column per number of texts it learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from charlm.comparing.rows import Row, mean, verdict

TEXTS = "labelled texts learnt from"
COMMONEST = "always the commonest class"


class Spot(NamedTuple):
    """What a model reaches with a number of labelled texts."""

    texts: int
    value: float | None  # mean score over seeds; None if every training failed
    half: float | None  # half the width of the 95 % interval of the mean over seeds; None for one seed
    failures: list[str]  # a reason for every training that failed
    seeds: int

    @property
    def low(self) -> float | None:
        """The lower end of the interval; None if it is unknown."""
        return None if self.value is None or self.half is None else self.value - self.half

    @property
    def high(self) -> float | None:
        return None if self.value is None or self.half is None else self.value + self.half


def counts(rows: Iterable[Row]) -> list[int]:
    """The numbers of labelled texts, if rows differ in them."""
    known = sorted({row.count for row in rows if row.count is not None})
    return known if len(known) > 1 else []


def by_line(rows: Iterable[Row]) -> dict[str, list[Spot]]:
    """The spots of every model from the fewest texts to the most; the model first that is best with the most."""
    lines: dict[str, list[Spot]] = {}
    for row in sorted(rows, key=lambda row: row.count or 0):
        spot = Spot(row.count or 0, mean(row.scores), row.interval, row.failures, len(row.trained) + len(row.failures))
        lines.setdefault(row.line, []).append(spot)
    last = {line: spots[-1].value for line, spots in lines.items()}
    return dict(sorted(lines.items(), key=lambda line: -(last[line[0]] or 0.0)))


def commonest(rows: Iterable[Row]) -> float | None:
    """The accuracy of whoever names the commonest class of the texts that all are scored on, whatever they say."""
    return mean(row.value("majority") for row in rows)


def verdicts(rows: Sequence[Row]) -> str:
    """A sentence for every number of texts on the difference between the best two models."""
    of_count = {count: [row for row in rows if row.count == count] for count in counts(rows)}
    return "\n".join(verdict(own) for own in of_count.values())


def caption(rows: Sequence[Row]) -> str:
    """What the figures leave open."""
    ends = [(row.value("low"), row.value("high")) for row in rows]
    widths = [(high - low) / 2 for low, high in ends if low is not None and high is not None]
    seeds = "± is half the 95 % interval over seeds, all of which learn from the same texts"
    return f"{seeds}; that other texts might be scored adds ± {max(widths):.3f} at most" if widths else seeds
