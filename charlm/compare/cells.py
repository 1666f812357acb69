"""The table's cells, once: for the terminal, Markdown, CSV and the page alike."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any, NamedTuple

from charlm.compare.rows import QUALITY, Row
from charlm.compare.run import Comparison

BEST = "*"  # stands behind the best value of a column


class Column(NamedTuple):
    title: str
    value: Callable[[Row], float | None]
    form: str
    best: Callable[..., float] | None = None  # min, max, or neither is better


class Line(NamedTuple):
    """One line of the table."""

    cells: list[str]
    best: list[bool]
    simple: bool = False  # a baseline, not a model
    note: str = ""  # why there is no model


BITS = Column("bits/byte", lambda row: row.mean("bits_per_byte"), "{:.4f}", min)
INTERVAL = Column("95 % ±", lambda row: row.interval, "{:.4f}")
SIZE = Column("parameters", lambda row: row.mean("params"), "{:,.0f}", min)
MEMORY = Column("peak MB", lambda row: (peak := row.mean("peak_memory")) and peak / 1e6, "{:,.0f}", min)
OF_TEXT = [
    BITS,
    INTERVAL,
    Column("nats/char", lambda row: row.mean("nats_per_char"), "{:.4f}", min),
    SIZE,
    Column("trains char/s", lambda row: row.mean("train_speed"), "{:,.0f}", max),
    Column("writes char/s", lambda row: row.mean("write_speed"), "{:,.0f}", max),
    MEMORY,
    Column("context", lambda row: row.mean("context"), "{:,.0f}"),
]
OF_PAIRS = [
    BITS,
    INTERVAL,
    Column("% exact", lambda row: (exact := row.quality("exact")) and 100 * exact, "{:.1f}", max),
    Column("BLEU", lambda row: row.quality("bleu"), "{:.1f}", max),
    Column("chrF", lambda row: row.quality("chrf"), "{:.1f}", max),
    SIZE,
    Column("trains char/s", lambda row: row.mean("train_speed"), "{:,.0f}", max),
    Column("translates char/s, in batches", lambda row: row.mean("write_speed"), "{:,.0f}", max),
    MEMORY,
]


def columns(comparison: Comparison) -> list[Column]:
    """Those in which something is known."""
    target, kind = comparison.target, OF_PAIRS if comparison.pairs else OF_TEXT
    shown = [c for c in kind if c is BITS or any(c.value(row) is not None for row in comparison.rows)]
    if target is not None:
        shown.append(Column(f"s to {target:g}", lambda row: row.reached(target), "{:,.0f}", min))
    return shown


def lines(comparison: Comparison) -> tuple[list[str], list[Line]]:
    """(titles, lines), the best model first and the baselines where they belong."""
    chosen, simple = columns(comparison), comparison.baselines
    there = [row for row in comparison.rows if row.trained]
    bests = []
    for column in chosen:
        known = [value for row in there if (value := column.value(row)) is not None]
        bests.append(column.best(known) if column.best and len(known) > 1 else None)
    ranked: list[tuple[float, Line]] = []
    for row in there:
        values = [column.value(row) for column in chosen]
        cells = ["-" if v is None else column.form.format(v) for column, v in zip(chosen, values, strict=True)]
        best = [value is not None and value == top for value, top in zip(values, bests, strict=True)]
        bits = row.mean("bits_per_byte") or 0.0
        beats = [] if simple is None else ["yes" if bits < simple.ngram6 else "no"]
        note = (
            f"{len(row.failures)} of {len(row.failures) + len(row.trained)} failed: {row.failures[0]}"
            if row.failures
            else ""
        )
        ranked.append((bits, Line([row.label, *cells, *beats], [False, *best, *[False] * len(beats)], note=note)))
    if simple is not None:
        for name, bits in simple.named().items():
            cells = [name, chosen[0].form.format(bits), *[""] * len(chosen)]
            ranked.append((bits, Line(cells, [False] * len(cells), simple=True)))
    ranked.sort(key=lambda pair: pair[0])
    failed = [Line([row.label], [False], note=row.failures[0]) for row in comparison.rows if not row.trained]
    titles = ["model", *(column.title for column in chosen), *([] if simple is None else ["beats 6-gram"])]
    return titles, [line for _, line in ranked] + failed


def marked(line: Line) -> list[str]:
    """The cells, the best ones with a star, so that a pipe shows them too."""
    return [cell + BEST if best else cell for cell, best in zip(line.cells, line.best, strict=True)]


def markdown(comparison: Comparison) -> str:
    titles, shown = lines(comparison)
    out = ["| " + " | ".join(titles) + " |", "|---|" + "--:|" * (len(titles) - 1)]
    for line in shown:
        cells = [f"**{c}**" if best else c for c, best in zip(line.cells, line.best, strict=True)]
        cells += [""] * (len(titles) - len(cells))
        if line.note:
            cells[1 if len(line.cells) == 1 else 0] += line.note if len(line.cells) == 1 else f" ({line.note})"
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def as_csv(comparison: Comparison) -> str:
    """One line per training, with plain numbers."""
    table: list[dict[str, Any]] = []
    for row in comparison.rows:
        table += [{"model": row.label, "failure": reason} for reason in row.failures]
        for each in row.trained:
            values = {name: getattr(each, name) for name in ROW}
            if each.translated:
                values |= {name: getattr(each.translated.quality, name) for name in QUALITY}
            reached = each.reached(comparison.target) if comparison.target is not None else None
            table.append({"model": row.label, **values, "seconds_to_target": reached})
    if comparison.baselines is not None:
        table += [{"model": name, "bits_per_byte": bits} for name, bits in comparison.baselines._asdict().items()]
    file = io.StringIO()
    names = [*ROW, *(QUALITY if comparison.pairs else ()), "seconds_to_target", "failure"]
    writer = csv.DictWriter(file, ["model", *names], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue().rstrip("\n")


ROW = [
    "run",
    "seed",
    "bits_per_byte",
    "nats_per_char",
    "params",
    "context",
    "train_speed",
    "write_speed",
    "peak_memory",
    "tokens_seen",
    "seconds",
    "bytes",
]
