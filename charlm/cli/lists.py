"""`charlm archs` and `charlm presets`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from charlm.cli.console import show, table


def archs() -> None:
    from charlm import archs

    shown = table("--arch", "what it is")
    for name in archs.names():
        shown.add_row(name, archs.summary(name).rstrip("."))
    show(shown)
    print("\nthe options of one: charlm train --arch A --help")


def presets(
    name: Annotated[str | None, typer.Argument(help="show what this one sets", show_default=False)] = None,
) -> None:
    from charlm import presets

    if name is not None:
        print(presets.file(name).read_text(encoding="utf-8"), end="")
        return
    shown = table("--preset", "what it is")
    for preset in presets.names():
        shown.add_row(preset, presets.description(preset))
    show(shown)
