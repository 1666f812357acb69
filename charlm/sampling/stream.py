"""Text as it comes, up to a stop string that may be split over several pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class Until:
    """Passes text on until the first stop string in it. What may be the start of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = [stop for stop in stops if stop]
        self.held, self.done = "", False

    def feed(self, piece: str) -> str:
        """What is certain by now to be wanted."""
        if self.done:
            return ""
        self.held += piece
        first, safe = self.first(), len(self.held) - max((overlap(self.held, s) for s in self.stops), default=0)
        if first <= safe and first < len(self.held):  # and none that began before it can still come
            self.done = True
            return self.held[:first]
        text, self.held = self.held[:safe], self.held[safe:]
        return text

    def first(self) -> int:
        """Where the first stop string begins; the length of the text if there is none."""
        return min((at for stop in self.stops if (at := self.held.find(stop)) >= 0), default=len(self.held))

    def flush(self) -> str:
        """What was held back, when no more text will come."""
        return "" if self.done else self.held[: self.first()]


def until_stop(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The same text, ended before the first stop string."""
    until = Until(stops)
    for piece in pieces:
        yield until.feed(piece)
        if until.done:
            return
    if end := until.flush():
        yield end


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
