"""Text shown to people, so that nothing in it moves the cursor or stays unseen."""

from __future__ import annotations

from charlm.text.characters import characters, continues

BLANKS = {"\n": "↵", "\t": "→"}


def printable(text: str) -> str:
    """Without what moves the cursor or rings the bell: control characters but newlines and tabs are spelled out."""
    return "".join(spelled(c[0]) + c[1:] for c in characters(text))


def visible(text: str, *, space: str = "·") -> str:
    """As `printable`, in one line, and blanks can be seen: ↵ → and what stands for a space; a mark stands on a ◌."""
    shown = ((space if c[0] == " " else BLANKS.get(c[0]) or spelled(c[0])) + c[1:] for c in map(held, characters(text)))
    return "".join(shown)


def held(text: str) -> str:
    """The text, on a dotted circle if it begins with a mark, which would be drawn over whatever is before it."""
    return f"◌{text}" if continues(text[:1] or " ") else text


def spelled(c: str) -> str:
    return c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}"
