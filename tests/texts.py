"""Texts that tests train on."""

from itertools import product
from pathlib import Path
from random import Random

FOX = "the quick brown fox jumps over the lazy dog.\n"
VERSES = "".join(
    f"{who}:\n{what}\n\n"
    for who, what in [
        ("WICK", "The lamp is out, the tide is in, and I am wet to the knee."),
        ("SNUFF", "Then stand on me, good Wick; I am wet to the neck already."),
        ("PEG", "Two fools in a puddle! Come, there is broth, and a bench, and a bill."),
        ("WICK", "We will have the broth, and the bench; let the bill have its rest."),
        ("SNUFF", "Who goes there? Speak, or I shall be forced to be frightened."),
        ("PEG", "It is the wind, as it was last night, and it pays as well as you do."),
    ]
    * 12
)


def backwards(path: Path) -> Path:
    """All words of one to four of four letters, and the same backwards, in mixed order."""
    words = ["".join(word) for size in range(1, 5) for word in product("abcd", repeat=size)]
    Random(0).shuffle(words)
    path.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words), encoding="utf-8")
    return path
