"""`charlm score`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from charlm.cli.opened import OPENING, open_run, run_and
from charlm.cli.options import Encoding, Json, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import read_text
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.console import watch
from charlm.views.score import difference_map, difference_summary
from charlm.views.score import view as view_of

if TYPE_CHECKING:
    from charlm.inside.surprise import Surprise


@with_settings(OPENING)
def score(
    names: Annotated[list[str], typer.Argument(metavar="[RUN] FILE", help="a text, or - for standard input")],
    diff: Annotated[
        str | None, typer.Option(help="another run: colour where one beats the other", show_default=False)
    ] = None,
    encoding: Encoding = None,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    run, file = run_and_file(names)
    text, opening = read_text(file, encoding), take(Opening, given)
    from charlm.inside.surprise import surprise

    def score_with(run: str) -> tuple[Surprise, str]:
        """Its bits, and what its vocabulary is known by."""
        path = folder.find(run, kind="text")
        with open_run(run, path, opening) as writer:
            return watch(surprise(writer, text)), writer.tokenizer.sha256

    first, vocabulary = score_with(run)
    if diff is None:
        view, value = view_of(first), first.to_json
    else:
        other, others = score_with(diff)
        if other.measure != first.measure:
            raise SettingsError(
                f"{run} is scored in {first.measure.words} and {diff} in {other.measure.words}, which do not compare"
            )
        if not first.measure.across and vocabulary != others:
            raise SettingsError(
                f"{run} and {diff} have different vocabularies, across which {first.measure.words} do not compare"
            )
        view = Group(difference_map(first, other), Text(), difference_summary(first, other, run, diff))
        value = partial(difference_as_json, first, other)
    present(view, value, json=json, html=html, svg=svg, png=png)


def run_and_file(names: list[str]) -> tuple[str, str]:
    """`[RUN] FILE`. Raises `SettingsError` for more than one run and file, `RunError` if there is no such run."""
    run, file = run_and(names, "file")
    folder.find(run, kind="text")
    return run, file


def difference_as_json(first: Surprise, other: Surprise) -> dict[str, Any]:
    ahead = (other.bits - first.bits).round(4).tolist()
    return {"run": first.to_json(), "other": other.to_json(), "ahead": ahead}
