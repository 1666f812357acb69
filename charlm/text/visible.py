"""Text for display, so that nothing in it moves the cursor or is invisible."""

from __future__ import annotations

from charlm.text.characters import characters, continues

BLANKS = {"\n": "↵", "\t": "→"}


def printable(text: str) -> str:
    """The text with control characters, other than newlines and tabs, written as \\x1b."""
    return "".join(escaped(c[0]) + c[1:] for c in characters(text))


def visible(text: str, *, space: str = "·") -> str:
    """As `printable`, but in one line: ↵ for a newline, → for a tab, `space` for a space, ◌ under a lone mark."""
    cut = map(with_base, characters(text))
    return "".join((space if c[0] == " " else BLANKS.get(c[0]) or escaped(c[0])) + c[1:] for c in cut)


def brief(text: str, longest: int, *, space: str = "·") -> str:
    """As `visible`, in at most so many characters."""
    cut = characters(visible(text, space=space))
    return "".join(cut if len(cut) <= longest else [*cut[: longest - 1], "…"])


def with_base(text: str) -> str:
    """The text, after a dotted circle if it begins with a mark, which else is drawn over the character before it."""
    return f"◌{text}" if continues(text[:1] or " ") else text


def escaped(c: str) -> str:
    return c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}"
