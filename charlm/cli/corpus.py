"""`charlm corpus`: texts to train on."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli.options import Command, Encoding, Group, Json, with_settings
from charlm.config import Arg, Settings
from charlm.errors import SettingsError
from charlm.text.synthetic import LONGEST, Task, line, make
from charlm.views.console import out, show, table, watch

app = typer.Typer(cls=Group, no_args_is_help=True)


@app.command("list", cls=Command)
def list_() -> None:
    """Show the bundled texts and the ones that can be downloaded."""
    from charlm.text import catalogue

    for text in catalogue.bundled():
        out.print(f"[bold]{text.name}[/]  comes with charlm, public domain", markup=True)
        out.print(f"  {text.description}\n  {text.path}\n  charlm corpus fetch {text.path.stem}\n", markup=False)
    for entry in catalogue.ENTRIES:
        out.print(f"[bold]{entry.name}[/]  {entry.bytes:,} bytes to download, licence: {entry.licence}", markup=True)
        out.print(f"  {entry.description}", markup=False)
        for part in entry.parts:
            out.print(f"  {part.url}\n    sha256 {part.sha256}", markup=False, soft_wrap=True)
        out.print(f"  charlm corpus fetch {entry.name}\n", markup=False)


@app.command(cls=Command)
def fetch(
    name: Annotated[str, typer.Argument(help="a name from charlm corpus list")],
    folder: Annotated[Path, typer.Option("--out", help="folder to put it in")] = Path(),
) -> None:
    """Copy a text that comes with charlm, or download one, going on where an earlier try ended, and verify it."""
    from charlm.text import catalogue

    if bundled := catalogue.bundled_path(name):
        print(catalogue.copy(bundled, folder))
        return
    entry = catalogue.find(name)
    path = watch(catalogue.fetch(entry, folder))
    arch = " --arch seq2seq" if entry.unpack == "pairs" else ""
    out.print(f"{path}\nnext: charlm train {path}{arch}", markup=False)


@dataclass(frozen=True)
class Amount(Settings):
    """How many pairs or lines to make, and how long."""

    pairs: Annotated[int, Arg("pairs, or lines of repeat", min=1, max=10**7)] = 20_000
    longest: Annotated[
        int | None,
        Arg(f"letters of the longest source, not of dates and numbers [default: {LONGEST}]", min=1, max=1000),
    ] = None
    seed: Annotated[int, Arg("the same seed makes the same pairs", min=0, max=2**63 - 1)] = 0


@app.command("make", cls=Command)
@with_settings({"How much": Amount})
def make_(
    task: Annotated[
        Task,
        typer.Argument(
            help="letters reversed, sorted or copied; dates to ISO 8601; number words to digits; names to greet; "
            "repeat, a running text: lines 0w0w of a random word"
        ),
    ],
    file: Annotated[
        Path | None, typer.Option("--out", help="where to \\[default: TASK.tsv, repeat.txt]", show_default=False)
    ] = None,
    *,
    given: dict[str, Any],
) -> None:
    """Make pairs or a text whose right answers are known, to learn on. [dim]charlm corpus make reverse[/]"""
    text = task == "repeat"
    path = file or Path(f"{task}.txt" if text else f"{task}.tsv")
    lines = [line(task, pair) for pair in make(task, **asdict(Amount(**given)))]
    try:
        with path.open("x", encoding="utf-8", newline="\n") as output:
            output.writelines(lines)
    except FileExistsError:
        raise SettingsError(f"{path} exists already; move it away, or name another file with --out") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; name another file with --out") from error
    pairs = "--copy --share-vocab" if task == "names" else "--attention additive --tokenizer char"
    settings = "--arch " + ("reformer" if text else f"seq2seq {pairs} --minutes 3")
    print(f"{path}\nnext: charlm train {path} {settings}")


@app.command(cls=Command)
def check(
    file: Annotated[Path, typer.Argument(help="the text to look at")],
    encoding: Encoding = None,
    json: Json = False,
) -> None:
    """Report encoding, size, vocabulary, repetition, and suggest settings."""
    from charlm.text.check import check as inspect

    report = inspect(file, encoding)
    if json:
        print(jsonlib.dumps(asdict(report), default=str))
        return
    properties = table("", "")
    for name, value in asdict(report).items():
        if name != "suggestions":
            properties.add_row(name.replace("_", " "), format_value(value))
    show(properties)
    for suggestion in report.suggestions:
        out.print(f"- {suggestion}", markup=False)


def format_value(value: Any) -> str:
    """A value of the report as text: of a long tuple its length and the first few items."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, tuple):
        few = ", ".join(repr(getattr(item, "character", item))[:60] for item in value[:8])
        return few if len(value) <= 8 else f"{len(value)}: {few}, …"
    return str(value)
