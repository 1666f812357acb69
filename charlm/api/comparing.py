"""`charlm.compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charlm.api.keywords import in_keywords, in_python, names_of
from charlm.api.run import Run
from charlm.api.training import as_path, plain
from charlm.comparing import cells
from charlm.comparing.asked import compared
from charlm.comparing.contest import Match
from charlm.comparing.run import Comparison
from charlm.views import console
from charlm.views.comparing import Bars, NotebookBars, Quiet, watch_comparison
from charlm.views.comparison import view
from charlm.views.learning import chart
from charlm.views.pictures import as_fragment
from charlm.views.shown import Records, Result

WIDTH = 160  # columns of its table


class InTerminal(Bars):
    def note(self, text: str) -> None:
        super().note(in_keywords(text))


class InNotebook(NotebookBars):
    def note(self, text: str) -> None:
        super().say(f"note: {in_keywords(text)}")


@in_python
def compare(
    *what: str | Path | Run,
    arch: str | Sequence[str] | None = None,
    init_from: Any = None,
    label_counts: Any = None,
    match: Match | None = None,
    seeds: int = 1,
    jobs: int = 1,
    target_bits: float | None = None,
    text: Any = None,
    pairs: Any = None,
    out: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Result[Comparison]:
    """See `charlm.compare`."""
    work = compared(
        names_of(what) or [],
        seeds,
        jobs,
        plain(settings),
        arch=joined(arch),
        starts=joined(init_from),
        counts=joined(label_counts),
        match=match,
        text=names_of(text),
        pairs=names_of(pairs),
        out=as_path(out),
        target=target_bits,
    )
    bars = Quiet if quiet else InNotebook if console.in_notebook() else InTerminal
    value = watch_comparison(work, jobs, bars)
    curves = {row.label: [training.curve for training in row.trained] for row in value.rows}
    return Result(
        value,
        lambda: view(value),
        value.to_dict,
        lambda: table(value),
        lambda: as_fragment(view(value), WIDTH) + chart(curves, value.measure),
        WIDTH,
    )


def table(comparison: Comparison) -> Records:
    """A row per training and baseline, with the columns of the command's `--csv`."""
    names, rows = cells.records(comparison)
    return [{name: row.get(name) for name in names} for row in rows]


def joined(names: Any) -> str | None:
    """One name or several, as the command has them: with commas between."""
    return None if names is None else ",".join(names_of(names) or [])
