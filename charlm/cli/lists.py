"""`charlm archs` and `charlm presets`: lists to choose from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from charlm.views.console import show, table


def archs() -> None:
    from charlm import archs

    names = table("--arch", "what it is")
    for name in archs.names():
        names.add_row(name, archs.summary(name).rstrip("."))
    show(names)
    print("\nthe options of one: charlm train --arch A --help")


def presets(
    name: Annotated[str | None, typer.Argument(help="show what this one sets", show_default=False)] = None,
) -> None:
    from charlm import presets

    if name is not None:
        for key, value in {"description": presets.description(name), **presets.read(name)}.items():
            print(f"{key} = {json.dumps(value, ensure_ascii=False)}")  # which TOML reads, too
        return
    names = table("--preset", "what it is")
    for preset in presets.names():
        names.add_row(preset, presets.description(preset))
    show(names)
