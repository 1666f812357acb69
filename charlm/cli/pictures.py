"""Colours for numbers, and printing and saving of views."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from charlm.errors import SettingsError
from charlm.views import console
from charlm.views.pictures import as_html, as_png, as_svg

Html = Annotated[Path | None, typer.Option(help="save the picture as a web page", show_default=False)]
Svg = Annotated[Path | None, typer.Option(help="save the picture as SVG", show_default=False)]
Png = Annotated[Path | None, typer.Option(help="save the picture as PNG (extra: report)", show_default=False)]


def present(
    view: RenderableType,
    value: Callable[[], dict[str, Any]],
    *,
    json: bool,
    html: Path | None = None,
    svg: Path | None = None,
    png: Path | None = None,
) -> None:
    """Print `view`, or what `value` returns as JSON, and save the view to the paths that are given."""
    for path, make in ((html, as_html), (svg, as_svg), (png, as_png)):
        if path is not None:
            save(path, make(view))
    if json:
        print(jsonlib.dumps(value()))
    else:
        console.show(view)


def save_as_named(path: Path, view: RenderableType, value: Callable[[], dict[str, Any]]) -> None:
    """Save in the format of the file's ending. Raises `SettingsError` for other endings."""
    formats: dict[str, Callable[[RenderableType], bytes]] = {
        ".html": as_html,
        ".svg": as_svg,
        ".png": as_png,
        ".json": lambda _: jsonlib.dumps(value()).encode(),
    }
    if path.suffix.lower() not in formats:
        raise SettingsError(f"{path} names no kind of picture; it may end in {', '.join(formats)}")
    save(path, formats[path.suffix.lower()](view))


def save(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; name another file") from None
    console.err.print(f"saved {path}", markup=False)
