"""Text that can be shown to people."""

from __future__ import annotations

from charlm.text.visible import printable, visible


def test_nothing_moves_the_cursor_and_blanks_can_be_seen() -> None:
    wild = "a b\té\n\x1b[2J\u2028"
    assert printable(wild) == "a b\té\n\\x1b[2J\\x2028"
    assert visible(wild) == "a·b→é↵\\x1b[2J\\x2028"
    assert visible(wild, space=" ") == "a b→é↵\\x1b[2J\\x2028"
