"""`charlm corpus`: texts to train on."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli.console import count, out, show, table, watch

app = typer.Typer(no_args_is_help=True, help="Find, download and inspect texts.")


@app.command("list")
def list_() -> None:
    """Show the bundled texts and the ones that can be downloaded."""
    from charlm.text import catalogue

    bundled = table("bundled", "what it is", "file")
    for text in catalogue.bundled():
        bundled.add_row(text.name, text.description, str(text.path))
    public = table("to fetch", ">bytes", "what it is", "licence", "sha256", "address")
    for entry in catalogue.ENTRIES:
        for number, part in enumerate(entry.parts):
            first = (entry.name, count(entry.bytes), entry.description, entry.licence) if number == 0 else ("",) * 4
            public.add_row(*first, part.sha256[:12], part.url)
    show(bundled)
    print()
    show(public)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a name from charlm corpus list")],
    folder: Annotated[Path, typer.Option(help="where to put it")] = Path(),
) -> None:
    """Download a text, going on where an earlier try ended, and verify it."""
    from charlm.text import catalogue

    path = watch(catalogue.fetch(catalogue.find(name), folder))
    out.print(f"{path}\nnext: charlm train {path}", markup=False)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="the text to look at")],
    json: Annotated[bool, typer.Option("--json", help="as a JSON object")] = False,
) -> None:
    """Report encoding, size, vocabulary, repetition, and suggest settings."""
    from charlm.text.check import check as inspect

    report = inspect(file)
    if json:
        print(jsonlib.dumps(asdict(report), default=str))
        return
    shown = table("", "")
    for name, value in asdict(report).items():
        if name != "suggestions":
            shown.add_row(name.replace("_", " "), told(value))
    show(shown)
    for suggestion in report.suggestions:
        out.print(f"- {suggestion}", markup=False)


def told(value: Any) -> str:
    """A value of the report as a person wants it: of many things the number and the first few."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, tuple):
        few = ", ".join(repr(getattr(each, "character", each))[:60] for each in value[:8])
        return few if len(value) <= 8 else f"{len(value)}: {few}, …"
    return str(value)
