"""`charlm delete` and `charlm rename`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from charlm.cli.options import RUN
from charlm.errors import SettingsError
from charlm.runs import folder, manage
from charlm.text.visible import printable
from charlm.views.console import note


def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help=RUN, show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="without asking")] = False,
) -> None:
    paths = list({path.resolve(): path for path in map(folder.find, runs)}.values())
    manage.refuse_unsafe(paths)
    files = [file for path in paths for file in manage.own_files(path)]
    what = f"{', '.join(map(str, paths))}: {len(files)} files, {size(manage.freed(files))}"
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError(f"{what}; nothing is deleted without a terminal to ask on: add --yes")
        if not typer.confirm(printable(f"{what}. Delete?")):
            raise typer.Exit(1)
    for path in paths:
        if others := manage.delete(path):
            note(printable(f"{path} stays, with what no training made: {', '.join(others)}"))
    print(printable(f"deleted {what}"))


def rename(
    run: Annotated[str, typer.Argument(help=RUN, show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NEW", help="its new name, in the same folder", show_default=False)],
) -> None:
    path = folder.find(run)
    print(printable(f"{path} is now {manage.rename(path, name)}"))


def size(number: int) -> str:
    """`812 bytes`, `1.3 MB`."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number} bytes"
