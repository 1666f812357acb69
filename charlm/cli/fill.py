"""`charlm fill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.asking import refuse_unused
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, with_settings
from charlm.cli.pictures import present
from charlm.cli.texts import PIPED, read_words, refuse_file
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.console import watch
from charlm.views.fill import view

if TYPE_CHECKING:
    pass


@with_settings(OPENING)
def fill(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] TEXT",
            help="a text with \\[MASK] for each missing token, \\[MASK]{5} for five in a row, and for a run of "
            "denoise or span \\[MASK] for any number; - reads standard input",
        ),
    ],
    encoding: Encoding = None,
    top: Annotated[int, typer.Option(help="guesses for each gap", min=1, max=1000)] = 5,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    if len(names) > 2:
        raise SettingsError(f"one run and one text, got {len(names)}: {' '.join(names)}; a text stands in quotes")
    run, typed = names if len(names) == 2 else ("last", names[0])
    path = folder.find(run, kind="text")
    refuse_unused(encoding, read=typed == PIPED, advice="- as TEXT")
    refuse_file("TEXT", typed)
    text = read_words("TEXT", typed, encoding)
    from charlm.inside.fill import fill as filling

    with open_run(run, path, take(Opening, given)) as writer:
        filled = watch(filling(writer, text, top))
    present(view(filled), filled.to_json, json=json)
