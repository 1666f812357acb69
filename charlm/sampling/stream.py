"""A stream of text up to the first stop string, which may be split over several pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class Until:
    """Passes text on until its first stop string. What may be the start of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = [stop for stop in stops if stop]
        self.buffer, self.done = "", False

    def feed(self, piece: str) -> str:
        """Add a piece; returns more of the text, as far as it certainly stands before a stop string."""
        if self.done or not self.stops:
            return "" if self.done else piece
        self.buffer += piece
        first, safe = self.first(), len(self.buffer) - max((overlap(self.buffer, s) for s in self.stops), default=0)
        if first <= safe and first < len(self.buffer):  # and no stop string that begins earlier can still follow
            self.done = True
            return self.buffer[:first]
        text, self.buffer = self.buffer[:safe], self.buffer[safe:]
        return text

    def first(self) -> int:
        """The position of the first stop string in the buffer; the buffer's length if there is none."""
        positions = map(self.buffer.find, self.stops)
        return min((position for position in positions if position >= 0), default=len(self.buffer))

    def flush(self) -> str:
        """The text that is still held back, at the end of the stream."""
        return "" if self.done else self.buffer[: self.first()]


def until_stop(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The same text in pieces, cut off before the first stop string."""
    until = Until(stops)
    for piece in pieces:
        yield until.feed(piece)
        if until.done:
            return
    if end := until.flush():
        yield end


def overlap(text: str, stop: str) -> int:
    """The largest n < len(stop) for which the last n characters of `text` are the first n of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
