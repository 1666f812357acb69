"""Where text goes: results to standard output, everything about them to standard error."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Generator
from typing import TypeVar

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from charlm.progress import Progress as Doing
from charlm.text.visible import printable

R = TypeVar("R")
WIDE = 400  # columns in a pipe, where nothing should be cut or wrapped


class Piped(Console):
    """Rich's console, but a pipe that is closed is an error like any other and not the end of the program."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = Piped(width=None if sys.stdout.isatty() else WIDE, highlight=False)
err = Piped(stderr=True, width=None if sys.stderr.isatty() else WIDE, highlight=False)

BARS = "▁▂▃▄▅▆▇█"


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; columns whose name begins with `>` are numbers and stand to the right."""
    made = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):  # the first one names things to be typed: never cut it
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=number == 0)
    return made


def show(made: Table) -> None:
    """Print a table; in a pipe without the blanks that fill its lines."""
    if out.is_terminal:
        out.print(made, markup=False)
        return
    with out.capture() as captured:
        out.print(made, markup=False)
    print("\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n")))


def note(text: str) -> None:
    """Something that a person should know, beside the result."""
    err.print(f"note: {text}", style="yellow", markup=False)


def sample_panel(text: str, *, taken: int) -> Panel:
    """The first lines of what a model wrote, where `taken` lines of the screen are needed for other things."""
    room = max(4, out.height - taken)
    lines = printable(text).strip("\n").split("\n")[:room]
    return Panel(Text("\n".join(lines)), title="latest sample", title_align="left", border_style="dim")


def watch(work: Generator[Doing, None, R]) -> R:
    """Do long work with a bar on standard error, where that is a terminal and the work takes its time."""
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
    """The last values as bars, the lowest on the ground."""
    values = [value for value in values[-width:] if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def count(number: float) -> str:
    """`812`, `12.3k`, `10.7M`."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if letter == 'k' else limit):.1f}{letter}"
    return f"{number:.0f}"


def write(text: str) -> None:
    """Model output to standard output, as it is and at once. A reader who has had enough ends the program."""
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.flush()
    except BrokenPipeError:
        close_quietly()
        raise typer.Exit(0) from None


def close_quietly() -> None:
    """After a broken pipe: let Python's own flush at exit go nowhere, or it would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
