"""Text that can be shown to people."""

from __future__ import annotations

from charlm.text.visible import printable, visible, with_base


def test_nothing_moves_the_cursor_and_blanks_can_be_seen() -> None:
    wild = "a b\té\n\x1b[2J\u2028"
    assert printable(wild) == "a b\té\n\\x1b[2J\\x2028"
    assert visible(wild) == "a·b→é↵\\x1b[2J\\x2028"
    assert printable("می\u200cخواهم\n\u200d") == "می\u200cخواهم\n\\x200d"  # a joiner joins, or is spelled out
    assert visible(wild, space=" ") == "a b→é↵\\x1b[2J\\x2028"


def test_a_mark_stays_on_its_letter_and_without_one_stands_on_a_circle() -> None:
    assert visible("नि e\u0301") == "नि·e\u0301"
    assert visible("\u093e") == "◌\u093e"
    assert visible("a\n\u0301") == "a↵◌\u0301"
    assert [with_base(token) for token in ("\u0301s", "s", "")] == ["◌\u0301s", "s", ""]
