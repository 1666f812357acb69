"""`charlm similar`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from charlm.asking import refuse_unused
from charlm.cli.opened import OPENING, errors_name_run, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import present
from charlm.cli.texts import PIPED, read_words, refuse_file
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.visible import visible
from charlm.views.console import table, watch

if TYPE_CHECKING:
    from charlm.inside.similar import Similar


@with_settings(OPENING, without={"quantize"})
def similar(
    run: Run = "last",
    *,
    text: Annotated[str, typer.Option(help="text at whose end the vector is taken; - reads standard input")],
    top: Annotated[int, typer.Option(help="places to show", min=1, max=1000)] = 10,
    read: Annotated[
        int, typer.Option(help="most tokens that are read to compare places", min=1000, max=10**8)
    ] = 2_000_000,
    encoding: Encoding = None,
    json: Json = False,
    given: dict[str, Any],
) -> None:
    refuse_unused(encoding, read=text == PIPED, advice="--text -")
    refuse_file("--text", text)
    info, words = folder.info(folder.find(run, kind="text")), read_words("--text", text, encoding)
    from charlm.inside.similar import similar as search
    from charlm.scoring import run_text

    with open_run(run, info.path, take(Opening, given)) as writer:
        with errors_name_run(run, info.path):
            store = watch(run_text(info))
        result = watch(search(writer, store, words, top=top, read=read))
    present(view(result), result.to_json, json=json)


def view(result: Similar) -> RenderableType:
    """Each place between what stands before and after it."""
    rows = table(">cosine", ">line", ">", "")
    for place in result.places:
        before, after = (visible(text, space=" ") for text in (place.before, place.after))
        rows.add_row(f"{place.cosine:.3f}", f"{place.line:,}", Text(before, "bold"), Text(f"│ {after}"))
    shares = f"all {result.total:,}" if result.compared == result.total else f"{result.compared:,} of {result.total:,}"
    return Group(rows, Text(f"\nthe nearest of {shares} places of the training text", "dim"))
