"""Where text goes: results to standard output, everything about them to standard error."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Generator
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from charlm.progress import Progress as WorkProgress
from charlm.text.visible import printable

R = TypeVar("R")
WIDE = 400  # columns in a pipe, so that nothing is cut or wrapped


class Piped(Console):
    """Rich's console, which raises `BrokenPipeError` for a closed pipe instead of ending the program."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, whose output is no terminal, whatever it says."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return getattr(shell, "kernel", None) is not None


PLAIN: Any = {"highlight": False, "emoji": False, "markup": False, "force_jupyter": False}  # a text is what it says
TERMINAL = False if in_notebook() else None  # None: rich looks
out = Piped(width=None if sys.stdout.isatty() else WIDE, force_terminal=TERMINAL, **PLAIN)
err = Piped(stderr=True, width=None if sys.stderr.isatty() else WIDE, force_terminal=TERMINAL, **PLAIN)

BARS = "▁▂▃▄▅▆▇█"


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; columns whose name begins with `>` are aligned to the right, as numbers."""
    grid = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):  # the first one holds names to be typed: it is never cut
        right = column.startswith(">")
        grid.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=number == 0)
    return grid


def show(view: RenderableType) -> None:
    """Print a table or a picture; in a pipe without blanks at the ends of lines."""
    if out.is_terminal:
        out.print(view, markup=False)
        return
    with out.capture() as captured:
        out.print(view, markup=False)
    print("\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n")))


def note(text: str) -> None:
    """Print a note to standard error."""
    err.print(f"note: {text}", style="yellow", markup=False)


def sample_panel(text: str, *, taken: int) -> Panel:
    """The first lines of a sample, as many as fit on a screen of which `taken` lines are used."""
    available = max(4, out.height - taken)
    lines = printable(text).strip("\n").split("\n")[:available]
    return Panel(Text("\n".join(lines)), title="latest sample", title_align="left", border_style="dim")


def watch(work: Generator[WorkProgress, None, R]) -> R:
    """Run a generator of progress to its end, with a bar if standard error is a terminal; returns its result."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            bar.update(task, description=event.what, completed=event.done, total=event.total)


def sparkline(values: list[float], width: int = 40) -> str:
    """The last `width` values as bars between their minimum and maximum."""
    values = [value for value in values[-width:] if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    minutes, remaining = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {remaining:02} s" if minutes else f"{remaining} s"


def watt_hours(wh: float) -> str:
    """`0.031 Wh`, `3.1 Wh`, `1.2 kWh`, `1.3 GWh`."""
    for limit, unit in ((1e9, "GWh"), (1e6, "MWh"), (1e3, "kWh")):
        if wh >= limit:
            return f"{wh / limit:,.1f} {unit}"
    return f"{wh:.0f} Wh" if wh >= 100 else f"{wh:.2g} Wh"


def count(number: float) -> str:
    """`812`, `12.3k`, `10.7M`."""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if letter == 'k' else limit):.1f}{letter}"
    return f"{number:.0f}"


def write(text: str) -> None:
    """Write a model's text to standard output at once and unchanged. A closed pipe ends the program."""
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.flush()
    except BrokenPipeError:
        close_quietly()
        raise SystemExit(0) from None


def close_quietly() -> None:
    """After a broken pipe: send standard output nowhere, or Python's flush at exit would raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
