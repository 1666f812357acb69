"""How `charlm compare` prints a comparison."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING

from charlm import kinds
from charlm.cli.console import note, out, show, table
from charlm.cli.texts import NO_BLEU
from charlm.runs import folder

if TYPE_CHECKING:
    from charlm.cli.curves import Along
    from charlm.compare.run import Comparison


def print_comparison(comparison: Comparison, along: Along, *, json: bool, csv: bool, markdown: bool) -> None:
    """Print JSON, CSV, Markdown, or the table with verdict and curves."""
    from charlm.cli.watching import next_command
    from charlm.compare import cells
    from charlm.plan import Plan

    if json:
        print(jsonlib.dumps(comparison.to_dict()))
        return
    if csv or markdown:
        print(cells.as_csv(comparison) if csv else cells.markdown(comparison))
        return
    print_table(comparison)
    print_curves(comparison, along)
    first = next((row.trained[0].run for row in comparison.rows if row.trained), None)
    if first:
        plan = Plan.from_dict(folder.info(first).config)
        out.print(next_command(first, plan), markup=False, soft_wrap=True)


def print_table(comparison: Comparison) -> None:
    from charlm.compare import cells

    trained = [row for row in comparison.rows if row.trained]
    if "chrf" in kinds.load(comparison.kind).figures and all(row.value("chrf") is None for row in trained):
        note(NO_BLEU)
    titles, lines = cells.lines(comparison)
    result = table(titles[0], *(f">{title}" for title in titles[1:]))
    for line in lines:
        if len(line.cells) == 1:
            result.add_row(line.cells[0], f"failed: {line.note}", style="red")
        else:
            result.add_row(*cells.marked(line), style="dim" if line.baseline else "")
    heading = f"{comparison.text['name']}: {comparison.scored_on}, each once"
    out.print(f"\n{heading}; * is the best of a column\n", markup=False)
    show(result)
    notes = [f"{line.cells[0]}: {line.note}" for line in lines if line.note and len(line.cells) > 1]
    out.print("\n".join(["", *notes, comparison.verdict]), markup=False)


def print_curves(comparison: Comparison, along: Along) -> None:
    """Scores by the number of labelled texts, or else learning curves, and quality by source length, where they have
    more than one point."""
    from charlm.cli.curves import by_count, by_length, curves
    from charlm.compare.counts import counts

    if counts(comparison.rows):
        out.print(by_count(comparison.rows, comparison.measure), markup=False)
        return
    by_label = {row.label: [training.curve for training in row.trained] for row in comparison.rows}
    if any(len(curve) > 1 for row_curves in by_label.values() for curve in row_curves):
        out.print(curves(by_label, comparison.measure, along), markup=False)
    bands = {row.label: row.bands for row in comparison.rows}
    if any(len(row_bands) > 1 for row_bands in bands.values()):
        out.print(by_length(bands), markup=False)
