"""Files of records, JSON lines and CSV: the names of their fields say whether they hold texts, pairs, or neither."""

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
HEAD_LINES = 20  # lines at the start of a file by which its content is judged
HEAD_CHARS = 1 << 16  # no more characters than these are read for that,
LONGEST_RECORD = 1 << 24  # unless a first line of JSON goes on: a whole book may stand in it
csv.field_size_limit(1 << 30)  # characters; a book may stand in one field

Columns = list[str] | str  # the texts of a line's columns, or in words why it is no pair


def peek(pieces: Iterator[str]) -> tuple[str, Iterator[str]]:
    """(the first lines of a text that comes in `pieces`, all of its pieces): use the second in place of `pieces`."""
    buffer, size, newlines = list[str](), 0, 0
    for piece in pieces:
        buffer.append(piece)
        size, newlines = size + len(piece), newlines + piece.count("\n")
        limit = HEAD_CHARS if newlines or not buffer[0].startswith("{") else LONGEST_RECORD
        if newlines >= HEAD_LINES or size > limit:
            break
    return "".join(buffer), chain(buffer, pieces)


class Form(NamedTuple):
    """How a file holds records, and of what."""

    csv: bool  # or else JSON lines
    holds: str  # "pairs", "texts", or "" for anything else
    fields: tuple[str, ...]  # names of the fields: of CSV all, of JSON those of the first record


def form_of(path: Path, head: str) -> Form | None:
    """What a file holds, judged by its name and its first lines (`head`); None if that is no records."""
    whole = head.rpartition("\n")[0] or head  # without a last line that is cut off
    first = [line for line in whole.split("\n")[:HEAD_LINES] if line.strip()]
    if ending(path) == CSV:
        names = header(first[0]) if first else []
        holds = "pairs" if {SOURCE, TARGET} <= {*names} else "texts" if TEXT in names else ""
        return Form(True, holds, tuple(names))
    values = [value for line in first if isinstance(value := parse_json(line), dict | list)]
    both = [PairFields().columns(value) for value in values]
    pairs = sum(isinstance(result, list) for result in both)
    texts = sum(isinstance(value, dict) and isinstance(value.get(TEXT), str) for value in values)
    holds = "pairs" if values and 2 * pairs >= len(first) else "texts" if values and 2 * texts >= len(first) else ""
    if not (holds or ending(path) in JSON):
        return None
    return Form(False, holds, tuple(values[0]) if values and isinstance(values[0], dict) else ())


def texts(path: Path, pieces: Iterator[str], size: int, notes: list[str]) -> Iterator[str]:
    """The text of a file that comes in `pieces`, in pieces of about `size` characters.

    Of a file of records it is their field `text`, with an empty line after each; any other file is read as it stands.
    What the user should know of that is added to `notes`. Raises `CorpusError` for CSV that cannot be read.
    """
    head, pieces = peek(pieces)
    form = form_of(path, head)
    if form is None or form.holds == "pairs":
        yield from pieces
        return
    if form.holds != "texts":
        has = f" (it has {', '.join(form.fields[:9])})" if form.fields else ""
        fields = "columns" if form.csv else "keys"
        notes.append(
            f"{path} is read as it stands: none of its {fields} is named {TEXT}, nor two {SOURCE} and {TARGET}{has}"
        )
        yield from pieces
        return
    notes.append(f"of {path} the field {TEXT} is read, with an empty line after each")
    buffer, length, left_out = list[str](), 0, 0
    records = (record for _, record in csv_records(path, pieces)) if form.csv else map(parse_json, lines(pieces))
    for record in records:
        text = record.get(TEXT) if isinstance(record, dict) else None
        if not isinstance(text, str):
            left_out += 1
            continue
        buffer.append(text.replace("\r\n", "\n").strip("\n") + "\n\n")
        length += len(buffer[-1])
        if length >= size:
            yield "".join(buffer)
            buffer, length = [], 0
    if buffer:
        yield "".join(buffer)
    if left_out:
        notes.append(f"{left_out} records of {path} have no {TEXT} and were left out")


def columns(path: Path, pieces: Iterator[str], fields: PairFields) -> Iterator[tuple[int, Columns]]:
    """(number from 1, columns) of every line of a file of pairs."""
    head, pieces = peek(pieces)
    form = form_of(path, head)
    if form and form.csv:
        for number, record in csv_records(path, pieces):
            yield number, fields.columns(record)
    else:
        for number, line in enumerate(lines(pieces), 1):
            if form is None:
                yield number, line.split("\t")
            else:
                yield number, fields.columns(parse_json(line)) if line.strip() else "is empty"


class PairFields:
    """Takes the two texts of a pair out of a record.

    The source of {"translation": {"de": ..., "en": ...}} is the language that comes first in the first record.
    """

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


def parse_json(line: str) -> Any:
    """The value of a line of JSON; None if it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def header(line: str) -> list[str]:
    """The names of the columns that the first line of CSV has, in lower case."""
    names = next(csv.reader([line], delimiter=delimiter(line)))
    return [name.strip().casefold() for name in names]


def delimiter(line: str) -> str:
    """What separates the columns of CSV: the most frequent of comma, semicolon and tab in its first line."""
    return max(",;\t", key=line.count)


def csv_records(path: Path, pieces: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line on which it begins, values by the name of their column) of every row of CSV.

    A row with more values than there are columns is empty. Raises `CorpusError` for CSV that cannot be read.
    """
    remaining = (f"{line}\n" for line in lines(pieces))
    first = next(remaining, "")
    reader = csv.reader(remaining, delimiter=delimiter(first), strict=True)
    names = header(first)
    line = 2
    try:
        for row in reader:
            if row:  # one with too many values was hardly cut where it was meant to be
                yield line, dict(zip(names, row, strict=False)) if len(row) <= len(names) else {}
            line = reader.line_num + 2
    except csv.Error as error:
        raise CorpusError(f"{path} cannot be read as CSV: line {reader.line_num + 1}: {error}") from None


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, without their newlines."""
    unfinished: list[str] = []  # the parts of a line that goes on in the next piece
    for piece in pieces:
        first, *others = piece.split("\n")
        unfinished.append(first)
        if others:
            yield "".join(unfinished)
            yield from others[:-1]
            unfinished = others[-1:]
    if last := "".join(unfinished):
        yield last


def ending(path: Path) -> str:
    """A file's suffix in lower case, that before .gz if it is compressed."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
