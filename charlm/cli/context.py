"""`charlm context`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from charlm.cli.console import table, watch
from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import Encoding, Json, OtherText, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import other_text
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening

if TYPE_CHECKING:
    from charlm.inside.context import Reach

WIDTH = 40  # columns of the longest bar


@with_settings(OPENING, without={"quantize"})
def context(
    run: Run = "last",
    text: OtherText = None,
    encoding: Encoding = None,
    positions: Annotated[int, typer.Option(help="places that are scored", min=1, max=100_000)] = 500,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    *,
    given: dict[str, Any],
) -> None:
    path = folder.find(run, kind="text")
    other = other_text(text, encoding)
    from charlm.inside.context import reach

    with errors_name_run(run, path):
        reached = watch(reach(path, text=other, positions=positions, opening=take(Opening, given)))
    present(view(reached), reached.to_json, json=json, html=html, svg=svg, png=png)


def view(reached: Reach) -> Table:
    highest = max(score for _, score in reached.contexts)
    scores = table(">tokens in sight", ">bits per byte", "")
    for tokens, score in reached.contexts:
        scores.add_row(str(tokens), f"{score:.3f}", "█" * round(WIDTH * score / highest))
    furthest = reached.contexts[-1].tokens
    if reached.enough < furthest:
        conclusion = f"after {count(reached.enough)} more context gains less than 1 %"
    else:
        conclusion = f"more context still gains 1 % or more at {count(furthest)}, the most that could be tried"
    scores.caption = Text(f"\n{conclusion}\nscored at {reached.places} places, the same for each line")
    scores.caption_justify = "left"
    return scores


def count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens} tokens"
