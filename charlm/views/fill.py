"""A text with its gaps filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from charlm.text.visible import printable, with_base
from charlm.views.console import table
from charlm.views.explain import cell

if TYPE_CHECKING:
    from charlm.inside.fill import Filled


def view(filled: Filled) -> RenderableType:
    """The text, and a table for each gap."""
    parts: list[RenderableType] = [Text(printable(filled.text.rstrip("\n")))]
    for number, gap in enumerate(filled.gaps, 1):
        size = {None: "any number of tokens", 1: "1 token"}.get(gap.tokens, f"{gap.tokens} tokens")
        rows = table(f"gap {number}, {size}", "share")
        for guess in gap.guesses:
            rows.add_row(repr(with_base(guess.text)), cell(guess.share))
        parts += [Text(), rows]
        if gap.tried is not None:
            parts.append(Text(f"the best of {gap.tried:,} that were tried", "dim"))
    return Group(*parts)
