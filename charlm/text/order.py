"""Whether the lines of a text are sorted: then the held-out end begins with letters that training never saw first."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

FEWEST, ENOUGH = 50, 1000  # comparisons of a line with the one before: fewer prove nothing, more are needless
TOLERANCE = 0.05  # share of them that may point the other way: there are many alphabetical orders
PREFIX = 40  # characters of a line by which it is compared


class SortCheck:
    """Whether the lines of a text that is added piece by piece rise, or fall, through the alphabet. Keeps two lines."""

    def __init__(self) -> None:
        self.rises = self.falls = 0
        self._line = ""  # the beginning of a line that goes on in the next piece
        self._before = ""  # the last line that was not blank

    def add(self, text: str) -> None:
        """The next piece of the text; it is not read once the text is known not to be sorted, as most are soon."""
        if self.rises + self.falls > ENOUGH and not self.sorted:
            return
        first, *others = text.split("\n")
        self._line = (self._line + first)[:PREFIX]
        for line in others:
            self._compare(self._line)
            self._line = line[:PREFIX]

    def _compare(self, line: str) -> None:
        line = line.strip().casefold()
        if line and self._before:
            self.rises += line > self._before
            self.falls += line < self._before
        self._before = line or self._before

    @property
    def sorted(self) -> bool:
        compared = self.rises + self.falls
        return compared >= FEWEST and min(self.rises, self.falls) <= TOLERANCE * compared


def shuffle_advice(paths: Sequence[Path], *, parallel: bool = False) -> str:
    """What to say of a text whose lines are sorted; lines of `parallel` files belong together, source and target."""
    files = shlex.join("FILE" if str(path) == "-" else str(path) for path in paths)
    if parallel:
        command = "paste SOURCE TARGET | shuf > shuffled.tsv"
    elif any(".csv" in path.suffixes for path in paths):
        command = "all rows but the first, which names the columns"
    elif any(path.suffix.lower() == ".gz" for path in paths):
        command = f"gzip -dc {files} | shuf > shuffled{paths[0].with_suffix('').suffix}"
    else:
        command = f"cat {files} | shuf > shuffled{paths[0].suffix or '.txt'}"
    return (
        "the lines stand in alphabetical order, so the end, which is held out, begins with other letters than what is "
        f"learnt from; if their order means nothing, shuffle them: {command}"
    )
