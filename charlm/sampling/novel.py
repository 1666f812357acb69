"""Writing without copying: tokens that would complete too long a passage of the training text are refused.

What is forbidden is a passage of more than so many characters in a row that stands in the training text word for word,
as in Ippolito et al. 2023, arXiv:2210.17546. A passage counts from where it begins, be it in the prompt; but
what the prompt itself holds is the business of whoever gave it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charlm.text.tokenizers import Tokenizer


class Passages:
    """Every passage of so many characters in a text, by its hash: 8 bytes for each."""

    def __init__(self, text: str, length: int) -> None:
        self.length, count = length, max(0, len(text) - length + 1)
        self.hashes = np.fromiter((hash(text[at : at + length]) for at in range(count)), np.int64, count)
        self.hashes.sort()

    def __contains__(self, passage: str) -> bool:
        at = int(np.searchsorted(self.hashes, value := hash(passage)))
        return at < len(self.hashes) and int(self.hashes[at]) == value


class Copies:
    """For each row the end of what is written, and which token would make it a copy."""

    def __init__(self, passages: Passages, tokenizer: Tokenizer, prompt: str, rows: int) -> None:
        self.passages = passages
        self.texts = [self.end(prompt)] * rows
        self.decoders = [tokenizer.decoder() for _ in range(rows)]

    def refuses(self, row: int, token: int) -> bool:
        """Whether a character of this token would be the last of a forbidden passage."""
        new, length = self.decoders[row].peek(token), self.passages.length
        text = self.texts[row] + new
        last = range(max(length, len(text) - len(new) + 1), len(text) + 1)  # where a passage may end
        return any(text[end - length : end] in self.passages for end in last)

    def took(self, tokens: Sequence[int]) -> None:
        """One token (B) of each row is written now."""
        for row, token in enumerate(tokens):
            self.texts[row] = self.end(self.texts[row] + self.decoders[row].feed(token))

    def end(self, text: str) -> str:
        """As much as a forbidden passage can still begin in."""
        return text[max(0, len(text) + 1 - self.passages.length) :]
