"""`charlm sample --side-by-side`: several models with the same prompt and the same random numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from charlm.text.characters import characters
from charlm.text.visible import printable
from charlm.written import Row


def columns(runs: Sequence[str], prompt: str, rows: Sequence[Row]) -> Table:
    """A table with a column per model; the beginning that all texts share is dim."""
    texts = [characters(printable(prompt + row.text())) for row in rows]
    same = [len(set(column)) == 1 for column in zip(*texts, strict=False)]
    shared = [*same, False].index(False) if len(texts) > 1 else len(characters(printable(prompt)))
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for run in runs:
        table.add_column(Text(run), overflow="fold")
    table.add_row(*[Text.assemble(("".join(text[:shared]), "dim"), "".join(text[shared:])) for text in texts])
    return table
