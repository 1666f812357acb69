"""`charlm restore`."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Run, with_settings
from charlm.cli.texts import PIPED, LineNumbers, read_text, run_and_file
from charlm.config import take
from charlm.runs.opening import Opening
from charlm.sampling.settings import BeamSettings, SampleSettings, TranslateSettings
from charlm.views.console import err, note, watch, write

if TYPE_CHECKING:
    from charlm.sampling.restore import Restored

BLOCK = 256  # pieces that are restored before they are printed


@with_settings(
    {
        "Decoding": BeamSettings,
        "Drawing, without a beam": SampleSettings,
        "Text": TranslateSettings,
        **OPENING,
    },
    without={"n_best"},
)
def restore(
    run: Run = "last",
    file: Annotated[
        str, typer.Argument(help="text to restore, with \\[MASK] for what is missing; - reads standard input")
    ] = PIPED,
    encoding: Encoding = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per piece, with log-probabilities")] = False,
    *,
    given: dict[str, Any],
) -> None:
    settings = take(TranslateSettings, given)
    path, file = run_and_file(run, file, find, "a text is restored so: echo {!r} | charlm restore")
    with open_run(run, path, take(Opening, given)) as writer:
        writer.check_can_restore()
        if file == PIPED and sys.stdin.isatty():
            err.print("type a text; Ctrl-D, or Ctrl-Z and Enter on Windows, ends it", style="dim")
        pieces, cut = (
            writer.damaged_pieces(read_text(file, encoding).removesuffix("\n"), settings.unknown),
            LineNumbers("piece"),
        )
        for first in range(0, len(pieces), BLOCK):
            block = watch(writer.restoring(pieces[first : first + BLOCK], settings, first=first))
            for number, restored in enumerate(block, first + 1):
                write(as_json(restored) if json else restored.text)
                if not restored.finished:
                    cut.add(number)
        if not json:
            write("\n")
    if cut.count:
        note(f"what was written was too long for this run, and was cut off there: {cut}")


def find(run: str) -> Path:
    """The folder of a run; `last` and `best` choose among those that restore."""
    from charlm.runs import folder

    return folder.find(run, kind="text", command="restore")


def as_json(restored: Restored) -> str:
    return jsonlib.dumps(restored._asdict(), ensure_ascii=False) + "\n"
