"""Files of records, JSON lines and CSV: the names of their fields say whether they hold texts, pairs, or what else."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from charlm.errors import CorpusError

JSON, CSV = (".jsonl", ".ndjson"), ".csv"
TEXT, SOURCE, TARGET, TRANSLATION = "text", "source", "target", "translation"
LOOKED_AT = 20  # lines of a file by which its content is judged,
ENOUGH, LONGEST = 1 << 16, 1 << 24  # in so many characters, or so many of JSON that has no newline yet
csv.field_size_limit(1 << 30)  # characters; a book may stand in one field

Columns = list[str] | str  # the two texts of a pair, or what is wrong with it


def begun(pieces: Iterator[str]) -> tuple[str, Iterator[str]]:
    """The first lines of a text, as many as are looked at, and all of it. One line of JSON may hold a whole book."""
    held, size, lines = list[str](), 0, 0
    for piece in pieces:
        held.append(piece)
        size, lines = size + len(piece), lines + piece.count("\n")
        if lines >= LOOKED_AT or size > (ENOUGH if lines or not held[0].startswith("{") else LONGEST):
            break
    return "".join(held), chain(held, pieces)


class Form(NamedTuple):
    """What the records of a file are."""

    csv: bool  # else JSON
    holds: str  # "pairs", "texts", or nothing that is known
    fields: tuple[str, ...]  # of the first record


def form_of(path: Path, start: str) -> Form | None:
    """By the name of a file and how it begins; None for one that holds no records."""
    whole = start.rpartition("\n")[0] or start  # without a line that is cut
    first = [line for line in whole.split("\n")[:LOOKED_AT] if line.strip()]
    if ending(path) == CSV:
        names = header(first[0]) if first else []
        holds = "pairs" if {SOURCE, TARGET} <= {*names} else "texts" if TEXT in names else ""
        return Form(True, holds, tuple(names))
    values = [value for line in first if isinstance(value := parsed(line), dict | list)]
    both = [Pairs().columns(value) for value in values]
    pairs = sum(isinstance(one, list) for one in both)
    texts = sum(isinstance(value, dict) and isinstance(value.get(TEXT), str) for value in values)
    holds = "pairs" if values and 2 * pairs >= len(first) else "texts" if values and 2 * texts >= len(first) else ""
    if not (holds or ending(path) in JSON):
        return None
    return Form(False, holds, tuple(values[0]) if values and isinstance(values[0], dict) else ())


def texts(path: Path, pieces: Iterator[str], size: int, notes: list[str]) -> Iterator[str]:
    """The text of a file that comes in `pieces`: that of its records, an empty line after each, or as it stands.

    What a person should know is added to `notes`. Raises `CorpusError` for CSV that cannot be read.
    """
    start, pieces = begun(pieces)
    form = form_of(path, start)
    if form is None or form.holds == "pairs":
        yield from pieces
        return
    if form.holds != "texts":
        has = f" (it has {', '.join(form.fields[:9])})" if form.fields else ""
        field = "columns" if form.csv else "keys"
        notes.append(
            f"{path} is read as it stands: none of its {field} is named {TEXT}, nor two {SOURCE} and {TARGET}{has}"
        )
        yield from pieces
        return
    notes.append(f"of {path} the field {TEXT} is read, with an empty line after each")
    held, length, left_out = list[str](), 0, 0
    records = (row for _, row in rows(path, pieces)) if form.csv else map(parsed, lines(pieces))
    for record in records:
        text = record.get(TEXT) if isinstance(record, dict) else None
        if not isinstance(text, str):
            left_out += 1
            continue
        held.append(text.replace("\r\n", "\n").strip("\n") + "\n\n")
        length += len(held[-1])
        if length >= size:
            yield "".join(held)
            held, length = [], 0
    if held:
        yield "".join(held)
    if left_out:
        notes.append(f"{left_out} records of {path} have no {TEXT} and were left out")


def columns(path: Path, pieces: Iterator[str], pairs: Pairs) -> Iterator[tuple[int, Columns]]:
    """The columns of each line of a file of pairs, with its number from 1."""
    start, pieces = begun(pieces)
    form = form_of(path, start)
    if form and form.csv:
        for number, row in rows(path, pieces):
            yield number, pairs.columns(row)
    else:
        for number, line in enumerate(lines(pieces), 1):
            if form is None:
                yield number, line.split("\t")
            else:
                yield number, pairs.columns(parsed(line)) if line.strip() else "is empty"


class Pairs:
    """Takes pairs out of records; which of two languages is the source, the first record says."""

    def __init__(self) -> None:
        self.languages: tuple[str, ...] = ()

    def columns(self, record: Any) -> Columns:
        if isinstance(record, dict) and isinstance(record.get(TRANSLATION), dict):
            record = record[TRANSLATION]
            if len(record) == 2 and not self.languages:
                self.languages = tuple(record)
            both = [record.get(language) for language in self.languages]
        elif isinstance(record, dict):
            both = [record.get(SOURCE), record.get(TARGET)]
        else:
            both = record if isinstance(record, list) else []
        if len(both) != 2 or not all(isinstance(text, str) for text in both):
            return f"holds no texts {SOURCE} and {TARGET}"
        both = [text.replace("\r\n", "\n").strip("\n") for text in both]
        return "has a text of several lines" if any("\n" in text for text in both) else both


def parsed(line: str) -> Any:
    """A line of JSON; None if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def header(line: str) -> list[str]:
    names = next(csv.reader([line], delimiter=delimiter(line)))
    return [name.strip().casefold() for name in names]


def delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def rows(path: Path, pieces: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of CSV by the names of their columns, which the first line has, and where they begin."""
    whole = (f"{line}\n" for line in lines(pieces))
    first = next(whole, "")
    reader = csv.reader(whole, delimiter=delimiter(first), strict=True)
    names = header(first)
    line = 2
    try:
        for row in reader:
            if row:  # one with too many fields was hardly cut where it was meant to be
                yield line, dict(zip(names, row, strict=False)) if len(row) <= len(names) else {}
            line = reader.line_num + 2
    except csv.Error as error:
        raise CorpusError(f"{path} cannot be read as CSV: line {reader.line_num + 1}: {error}") from None


def lines(chunks: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, without their newlines."""
    held: list[str] = []  # of a line that goes on in the next chunk
    for chunk in chunks:
        first, *rest = chunk.split("\n")
        held.append(first)
        if rest:
            yield "".join(held)
            yield from rest[:-1]
            held = rest[-1:]
    if last := "".join(held):
        yield last


def ending(path: Path) -> str:
    """Of a file's name, in small letters and without .gz."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
