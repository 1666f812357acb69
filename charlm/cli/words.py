"""`charlm neighbours` and `charlm analogy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from charlm.cli.opened import OPENING, open_run, run_and
from charlm.cli.options import Json, with_settings
from charlm.cli.pictures import present
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.console import table

if TYPE_CHECKING:
    from charlm.inside.words import Nearest, Term

Top = Annotated[int, typer.Option(help="words to show", min=1, max=1000)]


@with_settings(OPENING, without={"quantize"})
def neighbours(
    names: Annotated[list[str], typer.Argument(metavar="[RUN] WORD", help="a word of the run's vocabulary")],
    top: Top = 10,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from charlm.inside.words import Term

    run, word = run_and(names, "word")
    show(run, [Term("+", word)], top, take(Opening, given), json=json)


@with_settings(OPENING, without={"quantize"})
def analogy(
    words: Annotated[
        list[str], typer.Argument(metavar="[RUN] WORDS", help="words with + and - between them: king - man + woman")
    ],
    top: Top = 5,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from charlm.inside.words import SIGNS, parse

    named = len(words) > 1 and words[1] not in SIGNS
    show(words[0] if named else "last", parse(" ".join(words[named:])), top, take(Opening, given), json=json)


def show(run: str, terms: list[Term], top: int, opening: Opening, *, json: bool) -> None:
    path = folder.find(run)
    from charlm.inside.words import nearest

    with open_run(run, path, opening) as writer:
        result = nearest(writer, terms, top)
    present(view(result), result.to_json, json=json)


def view(result: Nearest) -> RenderableType:
    rows = table("word", ">cosine")
    for word, cosine in result.words:
        rows.add_row(Text(word), f"{cosine:.3f}")
    first, *others = result.terms
    sum = " ".join([first.word, *(f"{sign} {word}" for sign, word in others)])
    return Group(rows, Text(f"\nthe nearest to {sum} of {result.compared:,} words", "dim"))
