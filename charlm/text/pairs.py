"""Pairs as the user has them: lines of two columns, JSON lines, CSV, or two files that belong together line by line.

Whatever the form, a pair is two texts of one line each, neither of them blank. Blanks before and after a text belong to
it. A line that is no pair is named and counted.
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
from charlm.text.order import Order
from charlm.text.records import CSV, JSON, LOOKED_AT, Pairs, begun, columns, ending, form_of, lines

ENDINGS = (".tsv", CSV, *JSON)
NAMED = 5  # broken lines that are named


class Pair(NamedTuple):
    source: str
    target: str


class Line(NamedTuple):
    number: int  # from 1
    pair: Pair | None
    why: str = ""  # it is none


class PairCorpus:
    """Pairs in one or more files. They can be read any number of times."""

    def __init__(self, sources: Corpus, targets: Corpus | None) -> None:
        self.name, self.paths = sources.name, sources.paths
        self.targets = targets.paths if targets else ()  # where the second side stands in files of its own
        self._sides = [sources, *([targets] if targets else [])]
        self._count: int | None = None
        self._sha256, self._sorted = "", False
        self._broken: list[Line] = []  # the first of them
        self._left_out = 0
        self._wide = 0  # lines with more than two columns

    @classmethod
    def open(
        cls, paths: Sequence[str | Path], targets: Sequence[str | Path] = (), encoding: str = "utf-8"
    ) -> PairCorpus:
        """Raises what `Corpus.open` raises."""
        return cls(Corpus.open(paths, encoding), Corpus.open(targets, encoding) if targets else None)

    def __iter__(self) -> Iterator[Pair]:
        return (line.pair for line in self._read() if line.pair)

    def survey(self) -> Iterator[Progress]:
        """Read all of it, unless that was done, so that `count`, `sha256` and `notes` are known.

        Raises `CorpusError` if no line is a pair, or if two files have not equally many lines.
        """
        if self._count is not None:
            return
        for side in self._sides:
            yield from side.survey(raw=True)
        self._broken, self._left_out, self._wide, count, done = [], 0, 0, 0, 0
        order = Order()
        chars = sum(side.chars for side in self._sides)
        for at, line in enumerate(self._read(), 1):
            if line.pair:
                count += 1
                done += len(line.pair.source) + len(line.pair.target) + 2
                order.see(f"{line.pair.source}\n")
            else:
                self._left_out += 1
                self._broken = [*self._broken, line][:NAMED]
            if at % 50_000 == 0:
                yield Progress("reading pairs", done, chars)
        if not count:
            first = f": line {self._broken[0].number} {self._broken[0].why}" if self._broken else ""
            raise CorpusError(f"{', '.join(map(str, self.paths))} holds no pair{first}; {FORMS}")
        self._count, self._sorted = count, order.sorted
        self._sha256 = hashlib.sha256("".join(side.sha256 for side in self._sides).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Pairs."""
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
        """What a person should know of how they were read: of lines that are no pair, or more than one."""
        said, broken = [note for side in self._sides for note in side.notes], self._surveyed()._broken
        if broken:
            named, count = ", ".join(f"{line.number} ({line.why})" for line in broken), self._left_out
            more = f" and {count - NAMED} more" if count > NAMED else ""
            lines = f"{count} lines are no pair and were" if count > 1 else "1 line is no pair and was"
            where = " of all files together" if len(self._sides[0].paths) > 1 else ""
            said.append(f"{lines} left out: line {named}{more}{where}")
        if self._wide:
            lines = f"{self._wide} lines have" if self._wide > 1 else "1 line has"
            said.append(f"{lines} more than two columns; what is beyond the second was left out")
        return said

    def _surveyed(self) -> PairCorpus:
        for _ in self.survey():
            pass
        return self

    def _read(self) -> Iterator[Line]:
        if len(self._sides) == 2:
            yield from self._side_by_side()
            return
        number, before, form = 0, 0, Pairs()
        for path, pieces in self._sides[0].files():
            for at, texts in columns(path, pieces, form):
                number = before + at
                if isinstance(texts, list):
                    self._wide += len(texts) > 2 and self._count is None
                    yield line_of(number, texts)
                else:
                    yield Line(number, None, texts)
            before = number

    def _side_by_side(self) -> Iterator[Line]:
        for number, both in enumerate(zip_longest(*(lines(side.raw()) for side in self._sides)), 1):
            if None in both:
                short, long = (side.paths[0] for side in (self._sides if both[0] is None else self._sides[::-1]))
                raise CorpusError(
                    f"{short} has {number - 1} lines and {long} has more; line n of one belongs to line n"
                )
            yield line_of(number, list(both))


FORMS = "a pair is a line of two texts with a tab between them, or JSON or CSV with the fields source and target"


def line_of(number: int, columns: list[str]) -> Line:
    if len(columns) < 2:
        return Line(number, None, "has no tab" if columns[0].strip() else "is empty")
    both = Pair(*columns[:2])
    blank = [side for side, text in both._asdict().items() if not text.strip()]
    if blank:
        return Line(number, None, "is empty" if len(blank) == 2 else f"has no {blank[0]}")
    return Line(number, both)


def named_as_pairs(file: str | Path, encoding: str = "utf-8") -> bool:
    """Whether a file is named as one that may hold pairs, and holds them as far as can be seen."""
    path = Path(file)
    if ending(path) in (".tsv", "") or ending(path) not in ENDINGS or (path.exists() and not path.is_file()):
        return ending(path) == ".tsv"
    with suppress(CorpusError, SettingsError):
        return holds_pairs(Corpus.open([file], encoding))
    return False


def holds_pairs(corpus: Corpus) -> bool:
    """Whether a text's name or its first lines say so. Raises `CorpusError` if some of its files are named as pairs,
    and hold them, and others are not."""
    both = [(ending(path) in ENDINGS, pairs_in(path, begun(pieces)[0])) for path, pieces in corpus.files()]
    if len({all(one) for one in both}) > 1:
        raise CorpusError(f"{', '.join(map(str, corpus.paths))}: some are pairs and some running text; give one kind")
    _, first = both[0]
    return first


def pairs_in(path: Path, start: str) -> bool:
    """Whether the name of a file, which begins with `start`, or its first lines say that it holds pairs."""
    form = form_of(path, start)
    if form:
        return form.holds == "pairs"
    return ending(path) == ".tsv" or in_columns(start)


def in_columns(text: str) -> bool:
    """Whether nine in ten of the first lines have two columns."""
    first = text.rstrip("\n").split("\n")[:LOOKED_AT]
    return sum(line_of(0, line.split("\t")).pair is not None for line in first) >= 0.9 * len(first)
