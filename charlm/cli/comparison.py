"""How `charlm compare` prints a comparison."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING

from charlm import kinds
from charlm.cli.texts import NO_BLEU
from charlm.runs import folder
from charlm.views.console import note, out, show

if TYPE_CHECKING:
    from charlm.comparing.run import Comparison
    from charlm.views.curves import Along


def print_comparison(comparison: Comparison, along: Along, *, json: bool, csv: bool, markdown: bool) -> None:
    """Print JSON, CSV, Markdown, or the table with verdict and curves."""
    from charlm.comparing import cells
    from charlm.plan import Plan
    from charlm.views.training import next_command

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
    from charlm.views.comparison import heading, remarks, result_table

    trained = [row for row in comparison.rows if row.trained]
    if "chrf" in kinds.load(comparison.kind).figures and all(row.value("chrf") is None for row in trained):
        note(NO_BLEU)
    out.print(f"\n{heading(comparison)}\n", markup=False)
    show(result_table(comparison))
    out.print(remarks(comparison), markup=False)


def print_curves(comparison: Comparison, along: Along) -> None:
    """Scores by the number of labelled texts, or else learning curves, and quality by source length, where they have
    more than one point."""
    from charlm.comparing.counts import counts
    from charlm.views.curves import by_count, by_length, curves

    if counts(comparison.rows):
        out.print(by_count(comparison.rows, comparison.measure), markup=False)
        return
    by_label = {row.label: [training.curve for training in row.trained] for row in comparison.rows}
    if any(len(curve) > 1 for row_curves in by_label.values() for curve in row_curves):
        out.print(curves(by_label, comparison.measure, along), markup=False)
    bands = {row.label: row.bands for row in comparison.rows}
    if any(len(row_bands) > 1 for row_bands in bands.values()):
        out.print(by_length(bands), markup=False)
