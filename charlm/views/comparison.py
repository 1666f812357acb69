"""A comparison as a table with a verdict."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from charlm.comparing import cells
from charlm.comparing.run import Comparison
from charlm.views.console import table


def view(comparison: Comparison) -> Group:
    return Group(Text(heading(comparison)), Text(), result_table(comparison), Text(remarks(comparison)))


def heading(comparison: Comparison) -> str:
    return f"{comparison.text['name']}: {comparison.scored_on}, each once; * is the best of a column"


def result_table(comparison: Comparison) -> Table:
    titles, lines = cells.lines(comparison)
    result = table(titles[0], *(f">{title}" for title in titles[1:]))
    for line in lines:
        if len(line.cells) == 1:
            result.add_row(line.cells[0], f"failed: {line.note}", style="red")
        else:
            result.add_row(*cells.marked(line), style="dim" if line.baseline else "")
    return result


def remarks(comparison: Comparison) -> str:
    """Which trainings failed, and the verdict."""
    _, lines = cells.lines(comparison)
    notes = [f"{line.cells[0]}: {line.note}" for line in lines if line.note and len(line.cells) > 1]
    return "\n".join(["", *notes, comparison.verdict])
