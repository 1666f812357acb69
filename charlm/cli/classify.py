"""`charlm classify`."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Run, with_settings
from charlm.cli.texts import PIPED, LineNumbers, run_and_file
from charlm.cli.translate import blocks
from charlm.config import take
from charlm.errors import VocabularyError
from charlm.runs.opening import Opening
from charlm.sampling.settings import ClassifySettings
from charlm.views.console import err, note, write

if TYPE_CHECKING:
    from charlm.writer import Writer

Shares = list[tuple[str, float]]


@with_settings({"Reading": ClassifySettings, **OPENING})
def classify(
    run: Run = "last",
    file: Annotated[str, typer.Argument(help="texts to classify, a line each; - reads standard input")] = PIPED,
    encoding: Encoding = None,
    json: Annotated[
        bool, typer.Option("--json", help="one JSON object per line, with the shares of all classes")
    ] = False,
    *,
    given: dict[str, Any],
) -> None:
    unknown = take(ClassifySettings, given).unknown
    path, file = run_and_file(run, file, find, "a line is classified so: echo {!r} | charlm classify")
    with open_run(run, path, take(Opening, given)) as writer:
        writer.classify([])  # raises for a run that tells no classes before any line is read
        if file == PIPED and sys.stdin.isatty():
            err.print("type a line, Enter classifies it; Ctrl-D, or Ctrl-Z and Enter on Windows, ends", style="dim")
        cut, number = LineNumbers(), 0
        for lines in blocks(file, encoding, whole=False):
            for line, shares in classified(writer, lines, unknown, number):
                number += 1
                print_shares(line, shares, json=json)
                if shares and len(writer.tokenizer.encode(line.strip(), unknown)) > writer.longest_text:
                    cut.add(number)
    if cut.count:
        note(f"longer than the {writer.longest_text} tokens that this run reads, and cut off there: {cut}")


def find(run: str) -> Path:
    """The folder of a run; `last` and `best` choose among those that were trained on labelled texts."""
    from charlm.runs import folder

    return folder.find(run, kind="labels")


def classified(writer: Writer, lines: list[str], unknown: str, number: int) -> Iterator[tuple[str, Shares]]:
    """(line, its classes with their shares) for every line; a blank one has none. `number` is that of the first line,
    from 0.

    Raises `VocabularyError` for a line after yielding the lines before it.
    """
    try:
        shares = iter(writer.classify([line for line in lines if line.strip()], unknown))
    except VocabularyError as error:
        if len(lines) == 1:
            raise VocabularyError(f"line {number + 1}: {error}") from None
        for line_number, line in enumerate(lines, number):
            yield from classified(writer, [line], unknown, line_number)
        return
    for line in lines:
        yield line, next(shares) if line.strip() else []


def print_shares(line: str, shares: Shares, *, json: bool) -> None:
    """Print the likeliest class with its share, or a JSON object; for a blank line an empty one."""
    if json:
        label = shares[0][0] if shares else None
        write(jsonlib.dumps({"text": line, "label": label, "shares": dict(shares)}, ensure_ascii=False) + "\n")
    else:
        write(f"{shares[0][0]}\t{shares[0][1]:.4f}\n" if shares else "\n")
