"""The help page of a group of commands, as Typer draws those of single commands.

Typer's own code imports a Markdown renderer and a printer of tracebacks first, which takes a third of the time.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


def show_page(group: Any, context: Any) -> None:
    """Print usage, purpose, options, and what each command does."""
    console = Console(highlight=False)
    usage, _, example = group.get_usage(context).partition(" ")
    console.print(Padding(Text.assemble((usage, "yellow"), " ", example), 1), style="bold")
    console.print(Padding(Text(group.help), (0, 1, 1, 1)))
    options = columns("bold cyan", "bold green")
    for param in group.get_params(context):
        options.add_row(*sorted(param.opts, key=len, reverse=True), *[""] * (2 - len(param.opts)), param.help)
    console.print(panel("Options", options))
    width, panels = max(map(len, group.commands)), dict[str, Table]()
    for name, command in group.commands.items():
        title = command.rich_help_panel if isinstance(command.rich_help_panel, str) else "Commands"
        summary = Text.from_markup(" ".join(command.help.partition("\n\n")[0].split()))
        panels.setdefault(title, columns("bold cyan", width=width)).add_row(name, summary)
    for title, commands in panels.items():
        console.print(panel(title, commands))


def columns(*styles: str, width: int | None = None) -> Table:
    """A table with columns in these styles, and a wide last one for descriptions."""
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for style in styles:
        grid.add_column(style=style, no_wrap=True, width=width)
    grid.add_column(ratio=1)
    return grid


def panel(title: str, content: Table) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim")
