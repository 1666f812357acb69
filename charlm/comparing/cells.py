"""The cells of a comparison's table, for the terminal, Markdown, CSV and the report alike."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from charlm import kinds
from charlm.comparing.counts import COMMONEST, Spot, by_line, commonest, counts
from charlm.comparing.rows import Row, mean
from charlm.comparing.run import Comparison
from charlm.kinds._base import Column

BEST = "*"  # marks the best value of a column
SECONDS, INTERVAL = "seconds_to_target", "interval_95"  # columns of a row that are no means over its trainings


class Line(NamedTuple):
    """One line of the table."""

    cells: list[str]
    best: list[bool]  # whether a cell is the best of its column
    baseline: bool = False  # no model, but a simple method
    note: str = ""  # why trainings failed


def columns(comparison: Comparison) -> list[Column]:
    """The columns in which some row has a value; the score is the first."""
    measure, target = comparison.measure, comparison.target
    score = Column(measure.unit, measure.name, "{:.4f}", more=measure.more)
    others = [Column("95 % ±", INTERVAL, "{:.4f}"), *kinds.load(comparison.kind).columns]
    known = [c for c in others if any(value(comparison, row, c) is not None for row in comparison.rows)]
    reached = [] if target is None else [Column(f"s to {target:g}", SECONDS, "{:,.0f}", more=False)]
    return [score, *known, *reached]


def value(comparison: Comparison, row: Row, column: Column) -> float | None:
    """The value of a row in a column; None if it is unknown."""
    if column.name == SECONDS:
        return row.reached(comparison.target) if comparison.target is not None else None
    number = row.interval if column.name == INTERVAL else row.value(column.name)
    return None if number is None else number * column.scale


def lines(comparison: Comparison) -> tuple[list[str], list[Line]]:
    """(titles, lines): models and baselines, best score first, and then the models of which every training failed;
    where models learn from several numbers of labelled texts, a column for each number."""
    if numbers := counts(comparison.rows):
        return [comparison.measure.unit, *(f"{number:,} labels" for number in numbers)], count_lines(comparison.rows)
    shown, baselines = columns(comparison), comparison.baselines
    trained = [row for row in comparison.rows if row.trained]
    best_values = []
    for column in shown:
        known = [number for row in trained if (number := value(comparison, row, column)) is not None]
        best = None if column.more is None or len(known) < 2 else max(known) if column.more else min(known)
        best_values.append(best)
    ranked: list[tuple[float, Line]] = []
    for row in trained:
        values = [value(comparison, row, column) for column in shown]
        cells = ["-" if v is None else column.form.format(v) for column, v in zip(shown, values, strict=True)]
        is_best = [v is not None and v == best for v, best in zip(values, best_values, strict=True)]
        score = mean(row.scores) or 0.0
        beats = [] if baselines is None else ["yes" if score < baselines.ngram6 else "no"]
        failed = f"{len(row.failures)} of {len(row.failures) + len(row.trained)} failed: "
        note = failed + row.failures[0] if row.failures else ""
        ranked.append((score, Line([row.label, *cells, *beats], [False, *is_best, *[False] * len(beats)], note=note)))
    if baselines is not None:
        for name, bits in baselines.named().items():
            cells = [name, shown[0].form.format(bits), *[""] * len(shown)]
            ranked.append((bits, Line(cells, [False] * len(cells), baseline=True)))
    ranked.sort(key=lambda scored: scored[0], reverse=comparison.measure.more)
    failures = [Line([row.label], [False], note=row.failures[0]) for row in comparison.rows if not row.trained]
    titles = ["model", *(column.title for column in shown), *([] if baselines is None else ["beats 6-gram"])]
    return titles, [line for _, line in ranked] + failures


def count_lines(rows: Sequence[Row]) -> list[Line]:
    """A line per model, with its score for every number of labelled texts, and one of the commonest class."""
    numbers, table = counts(rows), []
    known = {model: {spot.texts: spot for spot in spots} for model, spots in by_line(rows).items()}
    for model, spots in known.items():
        cells, best, reasons = list[str](), list[bool](), list[str]()
        for number in numbers:
            values = [own[number].value or 0.0 for own in known.values() if number in own]
            spot = spots.get(number)
            cells.append(spot_cell(spot))
            best.append(spot is not None and len(values) > 1 and spot.value == max(values))
            if spot and spot.failures:
                failed = f"{len(spot.failures)} of {spot.seeds} failed: {spot.failures[0]}"
                reasons.append(f"with {number:,} labels {failed}")
        table.append(Line([model, *cells], [False, *best], note="; ".join(reasons)))
    if (share := commonest(rows)) is not None:
        table.append(Line([COMMONEST, *[f"{share:.3f}"] * len(numbers)], [False] * (len(numbers) + 1), baseline=True))
    return table


def spot_cell(spot: Spot | None) -> str:
    """The mean and half the interval over seeds."""
    if spot is None or spot.value is None:
        return "-"
    return f"{spot.value:.3f}" + (f" ± {spot.half:.3f}" if spot.half is not None else "")


def marked(line: Line) -> list[str]:
    """The cells, the best ones with a star, which shows without colours too."""
    return [cell + BEST if best else cell for cell, best in zip(line.cells, line.best, strict=True)]


def markdown(comparison: Comparison) -> str:
    titles, rows = lines(comparison)
    out = ["| " + " | ".join(titles) + " |", "|---|" + "--:|" * (len(titles) - 1)]
    for line in rows:
        cells = [f"**{c}**" if best else c for c, best in zip(line.cells, line.best, strict=True)]
        cells += [""] * (len(titles) - len(cells))
        if line.note:
            cells[1 if len(line.cells) == 1 else 0] += line.note if len(line.cells) == 1 else f" ({line.note})"
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def records(comparison: Comparison) -> tuple[list[str], list[dict[str, Any]]]:
    """(names, rows): the figures of every training and baseline as numbers without units, by name."""
    score = comparison.measure.name
    trained = [training for row in comparison.rows for training in row.trained]
    some = [name for name in ("start", "label_count") if any(each.figures[name] is not None for each in trained)]
    names = ["run", "seed", *some, score, *FIGURES, *kinds.load(comparison.kind).figures]
    table: list[dict[str, Any]] = []
    for row in comparison.rows:
        table += [{"model": row.label, "failure": reason} for reason in row.failures]
        for training in row.trained:
            reached = training.reached(comparison.target) if comparison.target is not None else None
            table.append({"model": row.label, **{name: training.figures.get(name) for name in names}, SECONDS: reached})
    if comparison.baselines is not None:
        table += [{"model": name, score: bits} for name, bits in comparison.baselines._asdict().items()]
    return ["model", *names, SECONDS, "failure"], table


def as_csv(comparison: Comparison) -> str:
    """CSV with a line per training and numbers without units."""
    names, table = records(comparison)
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue().rstrip("\n")


FIGURES = (
    "nats_per_char",
    "params",
    "multiply_adds",
    "context",
    "train_speed",
    "write_speed",
    "peak_memory",
    "tokens_seen",
    "seconds",
    "bytes",
)
