"""What is hidden as one: tokens, words, or phrases.

Whole words: Devlin et al. 2018, arXiv:1810.04805, as released in 2019. Phrases: Sun et al. 2019, arXiv:1904.09223
(ERNIE, section 3.2). Theirs come from a parser; ours are n words in a row, 1 to 3, with a probability in proportion to
1/n (Lan et al. 2019, arXiv:1909.11942, section 4.2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.text.units import in_word

LENGTHS = torch.tensor([6.0, 3.0, 2.0])  # of phrases of 1, 2 and 3 words: one over their number


class Edges(NamedTuple):
    """Where a token stands in words."""

    opens: bool  # its first character is one of a word: it goes on with a word before it
    closes: bool  # its last one is: a word after it goes on with it
    blank: bool  # it begins with a space
    word: bool  # after a space, if it has one, a word goes on


@lru_cache(1 << 16)
def edges(token: bytes) -> Edges:
    """Of what the token stands for. Parts of a character count as letters."""
    text = token.decode("utf-8", "replace").replace("\ufffd", "x") or "\0"
    bare = text[1:] if text[0] == " " else text
    return Edges(in_word(text[0]), in_word(text[-1]), text[0] == " ", bool(bare) and in_word(bare[0]))


def table(tokens: Tensor, vocabulary: Sequence[bytes]) -> list[Tensor]:
    """The four edges (B, T) each of tokens (B, T); of symbols and padding none is true."""
    distinct, inverse = torch.unique(tokens, return_inverse=True)
    none = Edges(False, False, False, False)
    rows = [edges(vocabulary[id]) if 0 <= id < len(vocabulary) else none for id in distinct.tolist()]
    return list(torch.tensor(rows)[inverse].unbind(-1))


def words(tokens: Tensor, vocabulary: Sequence[bytes]) -> Tensor:
    """(B, T) the number, in its row, of the word that a token is part of: a run of letters, digits and underscores,
    with their marks. What is none stands alone; a space belongs to a word if it is in a token with that."""
    opens, closes, _, _ = table(tokens, vocabulary)
    return numbers(~(opens[:, 1:] & closes[:, :-1]))


def phrases(tokens: Tensor, vocabulary: Sequence[bytes], rng: torch.Generator) -> Tensor:
    """(B, T) the number, in its row, of the phrase that a token is part of: one to three words in a row, each with the
    space before it. What is neither a word nor a space before one stands alone."""
    opens, closes, blank, word = table(tokens, vocabulary)
    leads = blank & ~word & F.pad(opens[:, 1:], (0, 1))  # a space that is a token, before a word
    begins = ~((opens[:, 1:] & closes[:, :-1]) | (leads[:, :-1] & opens[:, 1:]))
    count = numbers(begins)  # of words with their space
    joins = closes[:, :-1] & (leads | (blank & word))[:, 1:]  # where a word may follow another in a phrase
    sizes = torch.multinomial(LENGTHS, tokens.numel(), replacement=True, generator=rng).view(tokens.shape) + 1
    ends = torch.zeros(len(tokens), len(LENGTHS) * tokens.size(1) + 1, dtype=torch.bool)
    drawn = ends.scatter_(1, sizes.cumsum(1), True).gather(1, count)
    return numbers(begins & (drawn[:, 1:] | ~joins))


def numbers(begins: Tensor) -> Tensor:
    """(B, T) the number of the unit that a token is part of; `begins` (B, T - 1): whether the next one begins one."""
    return F.pad(begins.cumsum(1), (1, 0))
