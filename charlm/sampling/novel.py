"""Sampling without copying: tokens that would complete too long a passage of the training text are refused.

Too long is a passage of more than so many characters that occurs in the training text word for word, as in Ippolito et
al. 2023, arXiv:2210.17546. It may begin in the prompt; what lies within the prompt is never refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charlm.text.tokenizers import Tokenizer


class Passages:
    """The set of all passages of `length` characters in a text, as sorted hashes of 8 bytes each."""

    def __init__(self, text: str, length: int) -> None:
        self.length, count = length, max(0, len(text) - length + 1)
        self.hashes = np.fromiter((hash(text[start : start + length]) for start in range(count)), np.int64, count)
        self.hashes.sort()

    def __contains__(self, passage: str) -> bool:
        index = int(np.searchsorted(self.hashes, value := hash(passage)))
        return index < len(self.hashes) and int(self.hashes[index]) == value


class Copies:
    """Says which token would complete a forbidden passage; keeps the end of the text of each row for that."""

    def __init__(self, passages: Passages, tokenizer: Tokenizer, prompt: str, rows: int) -> None:
        self.passages = passages
        self.texts = [self.end(prompt)] * rows
        self.decoders = [tokenizer.decoder() for _ in range(rows)]

    def refuses(self, row: int, token: int) -> bool:
        """Whether a forbidden passage would end within this token."""
        new, length = self.decoders[row].peek(token), self.passages.length
        text = self.texts[row] + new
        ends = range(max(length, len(text) - len(new) + 1), len(text) + 1)  # of passages that end in `new`
        return any(text[end - length : end] in self.passages for end in ends)

    def append(self, tokens: Sequence[int]) -> None:
        """Add the token (B,) that was written to the text of each row."""
        for row, token in enumerate(tokens):
            self.texts[row] = self.end(self.texts[row] + self.decoders[row].feed(token))

    def end(self, text: str) -> str:
        """The last characters of `text`, in which a forbidden passage may have begun."""
        return text[max(0, len(text) + 1 - self.passages.length) :]
