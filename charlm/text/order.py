"""Whether the lines of a text are sorted: then its end, which is held out, begins with other letters than the rest."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

FEW, MANY = 50, 1000  # lines that differ from the one before: fewer prove nothing, and after more disorder stays
ACROSS = 0.05  # share of them that may stand the other way: sorting knows many alphabets
KNOWN = 40  # characters of a line by which it is compared


class Order:
    """Told a text piece by piece, it knows whether its lines rise, or fall, through the alphabet, in little memory."""

    def __init__(self) -> None:
        self.rises = self.falls = 0
        self._line = ""  # the beginning of the one that is not yet whole
        self._before = ""

    def see(self, text: str) -> None:
        """Looks no further than it must: most texts show within a page that they are not sorted."""
        if self.rises + self.falls > MANY and not self.sorted:
            return
        first, *rest = text.split("\n")
        self._line = (self._line + first)[:KNOWN]
        for line in rest:
            self._compare(self._line)
            self._line = line[:KNOWN]

    def _compare(self, line: str) -> None:
        line = line.strip().casefold()
        if line and self._before:
            self.rises += line > self._before
            self.falls += line < self._before
        self._before = line or self._before

    @property
    def sorted(self) -> bool:
        lines = self.rises + self.falls
        return lines >= FEW and min(self.rises, self.falls) <= ACROSS * lines


def shuffle_first(paths: Sequence[Path], *, parallel: bool = False) -> str:
    """What to tell of sorted lines; `parallel` files belong together line by line."""
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
