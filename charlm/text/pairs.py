"""Pairs as the user has them: lines of two columns, JSON lines, CSV, or two files that belong together line by line.

Whatever the form, a pair is two texts of one line each, neither of them blank. Spaces at the ends of a text belong to
it. A line that is no pair is left out, and a note says which and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from charlm.errors import CorpusError, SettingsError
from charlm.progress import Progress
from charlm.text.corpus import Corpus
from charlm.text.order import SortCheck
from charlm.text.records import CSV, HEAD_LINES, JSON, PairFields, columns, ending, form_of, lines, peek

ENDINGS = (".tsv", CSV, *JSON)
NAMED = 5  # lines that are no pair and are named in a note


class Pair(NamedTuple):
    source: str
    target: str


class ParsedLine(NamedTuple):
    number: int  # from 1
    pair: Pair | None
    problem: str = ""  # in words, why it is no pair


class PairCorpus:
    """Pairs in one or more files. They can be read any number of times."""

    def __init__(self, sources: Corpus, targets: Corpus | None) -> None:
        self.name, self.paths = sources.name, sources.paths
        self.targets = targets.paths if targets else ()  # files of the second side, where it has files of its own
        self._sides = [sources, *([targets] if targets else [])]
        self._count: int | None = None
        self._sha256, self._sorted = "", False
        self._broken: list[ParsedLine] = []  # the first lines that are no pair
        self._left_out = 0  # how many lines are no pair
        self._wide = 0  # lines with more than two columns

    @classmethod
    def open(
        cls, paths: Sequence[str | Path], targets: Sequence[str | Path] = (), encoding: str = "utf-8"
    ) -> PairCorpus:
        """The pairs in `paths`, or of sources in `paths` and targets in `targets`. Raises what `Corpus.open` raises."""
        return cls(Corpus.open(paths, encoding), Corpus.open(targets, encoding) if targets else None)

    def __iter__(self) -> Iterator[Pair]:
        return (line.pair for line in self._read() if line.pair)

    def survey(self) -> Iterator[Progress]:
        """Read all pairs once, so that `count`, `sha256` and `notes` are known; a second call does nothing.

        Raises `CorpusError` if no line is a pair, or if sources and targets differ in their number of lines.
        """
        if self._count is not None:
            return
        for side in self._sides:
            yield from side.survey(raw=True)
        self._broken, self._left_out, self._wide, count, done = [], 0, 0, 0, 0
        order = SortCheck()
        chars = sum(side.chars for side in self._sides)
        for number, line in enumerate(self._read(), 1):
            if line.pair:
                count += 1
                done += len(line.pair.source) + len(line.pair.target) + 2
                order.add(f"{line.pair.source}\n")
            else:
                self._left_out += 1
                self._broken = [*self._broken, line][:NAMED]
            if number % 50_000 == 0:
                yield Progress("reading pairs", done, chars)
        if not count:
            first = f": line {self._broken[0].number} {self._broken[0].problem}" if self._broken else ""
            raise CorpusError(f"{', '.join(map(str, self.paths))} holds no pair{first}; {FORMS}")
        self._count, self._sorted = count, order.sorted
        self._sha256 = hashlib.sha256("".join(side.sha256 for side in self._sides).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Number of pairs."""
        return self._surveyed()._count or 0

    @property
    def sha256(self) -> str:
        return self._surveyed()._sha256

    @property
    def sorted(self) -> bool:
        """Whether the sources stand in alphabetical order."""
        return self._surveyed()._sorted

    @property
    def notes(self) -> list[str]:
        """What the user should know of how they were read: of lines that are no pair, or have more than two columns."""
        notes, broken = [note for side in self._sides for note in side.notes], self._surveyed()._broken
        if broken:
            named, count = ", ".join(f"{line.number} ({line.problem})" for line in broken), self._left_out
            more = f" and {count - NAMED} more" if count > NAMED else ""
            lines = f"{count} lines are no pair and were" if count > 1 else "1 line is no pair and was"
            where = " of all files together" if len(self._sides[0].paths) > 1 else ""
            notes.append(f"{lines} left out: line {named}{more}{where}")
        if self._wide:
            lines = f"{self._wide} lines have" if self._wide > 1 else "1 line has"
            notes.append(f"{lines} more than two columns; what is beyond the second was left out")
        return notes

    def _surveyed(self) -> PairCorpus:
        for _ in self.survey():
            pass
        return self

    def _read(self) -> Iterator[ParsedLine]:
        if len(self._sides) == 2:
            yield from self._side_by_side()
            return
        number, before, fields = 0, 0, PairFields()  # before: lines in the files read so far
        for path, pieces in self._sides[0].files():
            for line, texts in columns(path, pieces, fields):
                number = before + line
                if isinstance(texts, list):
                    self._wide += len(texts) > 2 and self._count is None
                    yield parse_line(number, texts)
                else:
                    yield ParsedLine(number, None, texts)
            before = number

    def _side_by_side(self) -> Iterator[ParsedLine]:
        for number, both in enumerate(zip_longest(*(lines(side.raw()) for side in self._sides)), 1):
            if None in both:
                short, long = (side.paths[0] for side in (self._sides if both[0] is None else self._sides[::-1]))
                raise CorpusError(
                    f"{short} has {number - 1} lines and {long} has more; line n of one belongs to line n"
                )
            yield parse_line(number, list(both))


FORMS = "a pair is a line of two texts with a tab between them, or JSON or CSV with the fields source and target"


def parse_line(number: int, columns: list[str]) -> ParsedLine:
    """Line `number` with these columns, of which the first two are a pair if neither is blank."""
    if len(columns) < 2:
        return ParsedLine(number, None, "has no tab" if columns[0].strip() else "is empty")
    both = Pair(*columns[:2])
    blank = [side for side, text in both._asdict().items() if not text.strip()]
    if blank:
        return ParsedLine(number, None, "is empty" if len(blank) == 2 else f"has no {blank[0]}")
    return ParsedLine(number, both)


def named_as_pairs(file: str | Path, encoding: str = "utf-8") -> bool:
    """Whether a file holds pairs by its suffix: .tsv does, and .csv or JSON lines if its fields are those of pairs."""
    path = Path(file)
    if ending(path) in (".tsv", "") or ending(path) not in ENDINGS or (path.exists() and not path.is_file()):
        return ending(path) == ".tsv"
    with suppress(CorpusError, SettingsError):
        return holds_pairs(Corpus.open([file], encoding))
    return False


def holds_pairs(corpus: Corpus) -> bool:
    """Whether the suffixes of a corpus's files, or their first lines, say so.

    Raises `CorpusError` if some of its files have the suffix of pairs and hold them, and others do not.
    """
    files = [(ending(path) in ENDINGS, pairs_in(path, peek(pieces)[0])) for path, pieces in corpus.files()]
    if len({suffix and holds for suffix, holds in files}) > 1:
        raise CorpusError(f"{', '.join(map(str, corpus.paths))}: some are pairs and some running text; give one kind")
    _, holds = files[0]
    return holds


def pairs_in(path: Path, head: str) -> bool:
    """Whether a file holds pairs, judged by its name and its first lines (`head`)."""
    form = form_of(path, head)
    if form:
        return form.holds == "pairs"
    return ending(path) == ".tsv" or in_columns(head)


def in_columns(text: str) -> bool:
    """Whether nine in ten of the first lines have two columns."""
    first = text.rstrip("\n").split("\n")[:HEAD_LINES]
    return sum(parse_line(0, line.split("\t")).pair is not None for line in first) >= 0.9 * len(first)
