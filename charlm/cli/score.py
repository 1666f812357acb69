"""`charlm score`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from charlm.cli.console import table, watch
from charlm.cli.opened import OPENING, open_run, run_and
from charlm.cli.options import Encoding, Json, with_settings
from charlm.cli.pictures import Html, Png, Svg, heat, present, tilt
from charlm.cli.texts import read_text
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.score import BITS
from charlm.text.visible import visible

if TYPE_CHECKING:
    from charlm.inside.surprise import Surprise, Total

LARGE = 4.0  # bits of difference that get the deepest blue or red


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
        view, value = Group(heat_map(first), Text(), summary(first)), partial(as_json, first)
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


def heat_map(surprise: Surprise) -> Text:
    """The text with every character coloured by its bits, and the mean at the end of every line."""
    from charlm.inside.surprise import HOT

    view = Text()
    for line, bits in surprise.lines():
        for c, b in zip(line, bits.tolist(), strict=True):
            view.append(visible(c, space=" "), heat(b / HOT))
        view.append(f"  {bits.mean():.2f}\n", "dim")
    return view


def difference_map(first: Surprise, other: Surprise) -> Text:
    """The text with every character coloured by which model guesses it better, and how much."""
    view = Text()
    for (line, bits), (_, other_bits) in zip(first.lines(), other.lines(), strict=True):
        for c, ahead in zip(line, (other_bits - bits).tolist(), strict=True):
            view.append(visible(c, space=" "), tilt(-ahead / LARGE))  # blue: the first is better
        view.append(f"  {(other_bits - bits).mean():+.2f}\n", "dim")
    return view


def summary(surprise: Surprise) -> Group:
    measure = surprise.measure.words
    parts: list[RenderableType] = [
        Text(f"{surprise.value:.4f} {measure}; the redder, the more surprising; at a line's end its mean")
    ]
    if surprise.measure != BITS:
        parts.append(Text("a pseudo-log-likelihood: each token was hidden alone, and guessed from both sides"))
    for title, totals in breakdowns(surprise).items():
        means = table(title, ">characters", ">bits each")
        for total in totals:
            means.add_row(total.name, f"{total.chars:,}", f"{total.bits:.3f}")
        parts += [Text(), means]
    return Group(*parts)


def difference_summary(first: Surprise, other: Surprise, run: str, diff: str) -> Group:
    parts: list[RenderableType] = [
        Text(
            f"{run} {first.value:.4f}, {diff} {other.value:.4f} {first.measure.words}; "
            f"blue: {run} guesses better, red: {diff} does"
        )
    ]
    for (title, totals), other_totals in zip(breakdowns(first).items(), breakdowns(other).values(), strict=True):
        means = table(title, ">characters", f">{run}", f">{diff}")
        for a, b in zip(totals, other_totals, strict=True):
            means.add_row(a.name, f"{a.chars:,}", f"{a.bits:.3f}", f"{b.bits:.3f}")
        parts += [Text(), means]
    return Group(*parts)


def breakdowns(surprise: Surprise) -> dict[str, list[Total]]:
    """Mean bits of groups of characters, by the title of their table."""
    return {
        "kind of character": surprise.by_class(),
        "place in a word": surprise.by_place_in_word(),
        "text before it": surprise.by_distance(),
    }


def difference_as_json(first: Surprise, other: Surprise) -> dict[str, Any]:
    ahead = (other.bits - first.bits).round(4).tolist()
    return {"run": as_json(first), "other": as_json(other), "ahead": ahead}


def as_json(surprise: Surprise) -> dict[str, Any]:
    return {
        surprise.measure.name: surprise.value,
        "text": surprise.text,
        "bits": surprise.bits.round(4).tolist(),
        "lines": [{"text": "".join(line).rstrip("\n"), "bits": float(bits.sum())} for line, bits in surprise.lines()],
        **{
            title.replace(" ", "_"): [total._asdict() for total in totals]
            for title, totals in breakdowns(surprise).items()
        },
    }
