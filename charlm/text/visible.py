"""Text shown to people, so that nothing in it moves the cursor or stays unseen."""

from __future__ import annotations

BLANKS = {"\n": "↵", "\t": "→"}


def printable(text: str) -> str:
    """Without what moves the cursor or rings the bell: control characters but newlines and tabs are spelled out."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def visible(text: str, *, space: str = "·") -> str:
    """As `printable`, in one line, and blanks can be seen: ↵ → and what stands for a space."""
    return "".join(space if c == " " else BLANKS.get(c) or printable(c) for c in text)
