"""What a reader takes for one character: a letter, or a sign, with the marks and joiners behind it.

Accents, vowel signs, variation selectors, skin tones and joiners continue what they stand behind: Unicode Standard
Annex 29, rules WB4 and GB9, for what has the property Word_Break=Extend or ZWJ. Joined pictures stay apart.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

NO_MARKS = re.compile("[\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")  # by their category


@lru_cache(4096)
def continues(code_point: str) -> bool:
    """Whether this is a mark or joiner, which belongs to the character before it."""
    return unicodedata.category(code_point)[0] == "M" or NO_MARKS.match(code_point) is not None


def characters(text: str) -> list[str]:
    """The text cut into characters. Behind a newline or another control character nothing is continued."""
    cut: list[str] = []
    for c in text:
        if cut and c > "~" and cut[-1] >= " " and continues(c):
            cut[-1] += c
        else:
            cut.append(c)
    return cut
