"""Labelled texts as the user has them: lines `text<TAB>label`, CSV with a header, or JSON lines.

The fields are named `text` and `label`, or `text_a`, `text_b` and `label` for two texts, which a tab then joins to one.
A tab-separated file may have a header with these names; without one the last column is the label. A text of several
lines becomes one, with a space for each break, and blanks at its ends are left out. A line that is no labelled text is
left out too, and a note says which and why.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from charlm.errors import CorpusError, SettingsError
from charlm.progress import Progress
from charlm.text.corpus import Corpus
from charlm.text.records import CSV, HEAD_LINES, JSON, csv_records, ending, form_of, lines, parse_json, peek

TEXT, FIRST, SECOND, LABEL = "text", "text_a", "text_b", "label"
ONE, TWO = {TEXT, LABEL}, {FIRST, SECOND, LABEL}
NAME = ".labels.tsv"  # a file that ends so holds labelled texts, whatever stands in it
REPEATED = 3  # times that the labels of a plain table's first lines stand in them, on average; targets of pairs differ
NAMED = 5  # lines that are no labelled text and are named in a note
FORMS = (
    "a labelled text is a line text, tab, label, or a record of CSV or JSON lines with the fields text and label, or "
    "text_a, text_b and label"
)


class Labelled(NamedTuple):
    text: str
    label: str


class LabelCorpus:
    """Labelled texts in one or more files. They can be read any number of times."""

    targets: tuple[Path, ...] = ()

    def __init__(self, corpus: Corpus) -> None:
        self.name, self.paths, self._corpus = corpus.name.removesuffix(".labels"), corpus.paths, corpus
        self._counts: Counter[str] | None = None  # of each label
        self._broken = list[tuple[int, str]]()  # (line, why) of the first lines that are no labelled text
        self._left_out = 0

    def __iter__(self) -> Iterator[Labelled]:
        return (item for _, item in self._read() if isinstance(item, Labelled))

    def numbered(self) -> Iterator[tuple[int, Labelled]]:
        """With the number of the line, from 1, that each begins on."""
        return ((number, item) for number, item in self._read() if isinstance(item, Labelled))

    def survey(self) -> Iterator[Progress]:
        """Read all once, so that `counts`, `sha256` and `notes` are known; a second call does nothing.

        Raises `CorpusError` if no line is a labelled text.
        """
        if self._counts is not None:
            return
        yield from self._corpus.survey(raw=True)
        counts, self._broken, self._left_out, done = Counter[str](), [], 0, 0
        for count, (number, item) in enumerate(self._read(), 1):
            if isinstance(item, Labelled):
                counts[item.label] += 1
                done += len(item.text)
                if count % 50_000 == 0:
                    yield Progress("reading labelled texts", done, self._corpus.chars)
            else:
                self._left_out += 1
                self._broken = [*self._broken, (number, item)][:NAMED]
        if not counts:
            first = f": line {self._broken[0][0]} {self._broken[0][1]}" if self._broken else ""
            raise CorpusError(f"{', '.join(map(str, self.paths))} holds no labelled text{first}; {FORMS}")
        self._counts = counts

    @property
    def counts(self) -> Counter[str]:
        """How many texts have each label."""
        for _ in self.survey():
            pass
        assert self._counts is not None
        return self._counts

    @property
    def sha256(self) -> str:
        """Of the text, and of being read as labelled."""
        return hashlib.sha256(f"labels {self._corpus.sha256}".encode()).hexdigest()

    @property
    def notes(self) -> list[str]:
        """What the user should know of how they were read: how many of each class, and which lines are none."""
        counts = self.counts
        listed = ", ".join(f"{label} {count}" for label, count in counts.most_common(12))
        more = f", and {len(counts) - 12} more" if len(counts) > 12 else ""
        notes = [*self._corpus.notes, f"{counts.total()} labelled texts of {len(counts)} classes: {listed}{more}"]
        if self._broken:
            named = ", ".join(f"{number} ({why})" for number, why in self._broken)
            more = f" and {self._left_out - NAMED} more" if self._left_out > NAMED else ""
            are = "line is no labelled text and was" if self._left_out == 1 else "lines are no labelled text and were"
            notes.append(f"{self._left_out} {are} left out: line {named}{more}")
        return notes

    def _read(self) -> Iterator[tuple[int, Labelled | str]]:
        """(number of the line, the labelled text, or in words why it is none)."""
        for path, pieces in self._corpus.files():
            for number, record in records(path, pieces):
                yield number, record if isinstance(record, str) else labelled(record)


def records(path: Path, pieces: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """(number of the line, its fields by name, or in words why it has none) of every line of a file."""
    head, pieces = peek(pieces)
    form = form_of(path, head)
    if form and form.csv:
        yield from csv_records(path, pieces)
        return
    names: list[str] | None = None
    for number, line in enumerate(lines(pieces), 1):
        if not line.strip():
            yield number, "is empty"
        elif form:
            record = parse_json(line)
            yield number, record if isinstance(record, dict) else "is no JSON object"
        elif names is None and (names := header(line)):
            continue
        else:
            cells = line.split("\t")
            names = names or ([TEXT, LABEL] if len(cells) < 3 else [FIRST, SECOND, LABEL])
            wrong = f"has {len(cells)} columns and not {len(names)}" if len(cells) > 1 else "has no tab"
            yield number, dict(zip(names, cells, strict=True)) if len(cells) == len(names) else wrong


def labelled(record: Mapping[str, Any]) -> Labelled | str:
    """The labelled text in a record's fields, or in words why it holds none."""
    names = [TEXT] if TEXT in record else [FIRST, SECOND]
    texts = [one_line(record.get(name)) for name in names]
    label = record.get(LABEL)
    if isinstance(label, bool | int):  # of JSON
        label = str(label).lower()
    for name, text in zip([*names, LABEL], [*texts, one_line(label)], strict=True):
        if not text:
            return f"has no {name}"
    return Labelled("\t".join(texts), one_line(label))


def one_line(text: Any) -> str:
    """A text without its breaks, "" for what is none."""
    return " ".join(text.split("\n")).strip() if isinstance(text, str) else ""


def named_fields(names: Iterable[str]) -> bool:
    """Whether fields of these names hold labelled texts."""
    return any({*names}.issuperset(form) for form in (ONE, TWO))


def header(line: str) -> list[str] | None:
    """The names of a table's columns, if its first line has those of a labelled text."""
    names = [name.strip().casefold() for name in line.split("\t")]
    return names if named_fields(names) else None


def named_as_labels(file: str, encoding: str) -> bool:
    """Whether a file, which may not exist, holds labelled texts by its name, or by its suffix and its first lines."""
    path = Path(file)
    if ending(path) not in (".tsv", CSV, *JSON) or not path.is_file():
        return file.endswith(NAME)
    with suppress(CorpusError, SettingsError):
        return holds_labels(Corpus.open([file], encoding))
    return False


def holds_labels(corpus: Corpus) -> bool:
    """Whether all files of a corpus hold labelled texts, judged by their names and first lines."""
    return all(labels_in(path, peek(pieces)[0]) for path, pieces in corpus.files())


def labels_in(path: Path, head: str) -> bool:
    """The same of one file. The labels of a table without a header are two or more, few, and each of them repeated."""
    form = form_of(path, head)
    if form:
        return named_fields(form.fields)
    if str(path).endswith(NAME):
        return True
    first = [line.split("\t") for line in head.rstrip("\n").split("\n")[:HEAD_LINES]]
    if header("\t".join(first[0])):
        return True
    last = [cells[-1].strip() for cells in first if len(cells) == len(first[0])]
    same_form = len(first[0]) in (2, 3) and len(last) >= 0.9 * len(first) and len(first) >= HEAD_LINES // 2
    labels = {*last}
    are_names = len(labels) > 1 and all(label and label.isprintable() for label in labels)
    return same_form and are_names and len(labels) * REPEATED <= len(last)
