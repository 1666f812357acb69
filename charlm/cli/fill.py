"""`charlm fill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from charlm.cli.console import table, watch
from charlm.cli.explain import cell
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, with_settings
from charlm.cli.pictures import present
from charlm.cli.texts import PIPED, read_words, refuse_file, refuse_unused
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.visible import printable, with_base

if TYPE_CHECKING:
    from charlm.inside.fill import Filled


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


def view(filled: Filled) -> RenderableType:
    """The text, and a table for each gap."""
    parts: list[RenderableType] = [Text(printable(filled.text.rstrip("\n")))]
    for number, gap in enumerate(filled.gaps, 1):
        size = {None: "any number of tokens", 1: "1 token"}.get(gap.tokens, f"{gap.tokens} tokens")
        rows = table(f"gap {number}, {size}", "share")
        for guess in gap.guesses:
            rows.add_row(repr(with_base(guess.text)), cell(guess.share))
        parts += [Text(), rows]
        if gap.tried is not None:
            parts.append(Text(f"the best of {gap.tried:,} that were tried", "dim"))
    return Group(*parts)
