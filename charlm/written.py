"""Texts while they are being written."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from charlm.progress import Progress
from charlm.sampling.settings import Request
from charlm.sampling.stream import Until

if TYPE_CHECKING:
    from charlm.writer import Piece

STRIDE = 32  # tokens between two progress reports


def collect(name: str, pieces: Iterator[Piece], request: Request) -> Generator[Progress, None, list[Row]]:
    """The whole texts that a model writes, from the pieces of them; `name` is for the progress."""
    rows = [Row(request.stop) for _ in range(request.samples)]
    for number, piece in enumerate(pieces, 1):
        for row, new, logprob in zip(rows, piece.texts, piece.logprobs.tolist(), strict=True):
            row.add(new, logprob, keep=True)
        if all(row.until.done for row in rows):
            break
        if number % STRIDE == 0:
            yield Progress(name, number, request.length)
    return rows


class Row:
    """One of the texts being written."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.until = Until(stops)
        self.new = ""
        self.parts: list[str] = []
        self.tokens: list[dict[str, Any]] = []

    def add(self, piece: str, logprob: float, *, keep: bool) -> None:
        """Add a token; with `keep` it becomes part of `text`, without only of `new`, the newest part."""
        if keep and not self.until.done:
            self.tokens.append({"text": piece, "logprob": round(logprob, 5)})
        self.new = self.until.feed(piece)
        if keep:
            self.parts.append(self.new)

    def text(self) -> str:
        """The whole text so far, up to a stop string."""
        return "".join(self.parts) + self.until.flush()

    def to_json(self, request: Request) -> dict[str, Any]:
        return {"prompt": request.prompt, "text": self.text(), "seed": request.seed, "tokens": self.kept_tokens()}

    def kept_tokens(self) -> list[dict[str, Any]]:
        """The tokens of `text`, without those of a stop string."""
        length, ends = len(self.text()), accumulate(len(token["text"]) for token in self.tokens)
        return [token for token, end in zip(self.tokens, ends, strict=True) if end <= length]
