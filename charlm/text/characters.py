"""What a reader takes for one character: a code point with the marks and joiners that follow it.

Accents, vowel signs, variation selectors, skin tones and joiners belong to the character before them: Unicode Standard
Annex 29, rules WB4 and GB9, for code points with Word_Break=Extend or ZWJ. Emoji that a ZWJ joins stay separate.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

WHITE_SPACE = frozenset(  # Unicode's; str.isspace() knows four control characters more
    [*"\t\n\v\f\r \x85\xa0\u1680", *map(chr, range(0x2000, 0x200B)), *"\u2028\u2029\u202f\u205f\u3000"]
)
OTHERS = re.compile("[\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")  # not of category M


@lru_cache(4096)
def continues(code_point: str) -> bool:
    """Whether a code point is a mark or joiner, which belongs to the character before it."""
    return unicodedata.category(code_point)[0] == "M" or OTHERS.match(code_point) is not None


def characters(text: str) -> list[str]:
    """The text cut into characters. A mark after a control character, such as a newline, is a character of its own."""
    cut: list[str] = []
    for c in text:
        if cut and c > "~" and cut[-1] >= " " and continues(c):
            cut[-1] += c
        else:
            cut.append(c)
    return cut
