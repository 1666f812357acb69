"""`charlm score`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from charlm.cli.console import table, watch
from charlm.cli.opened import OPENING, opened
from charlm.cli.options import Encoding, Json, with_settings
from charlm.cli.pictures import Html, Png, Svg, heat, present, tilt
from charlm.cli.texts import whole
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.visible import visible

if TYPE_CHECKING:
    from charlm.inside.surprise import Surprise, Total

APART = 4.0  # bits of difference at which a character is as blue or red as it gets


@with_settings(OPENING)
def score(
    what: Annotated[list[str], typer.Argument(metavar="[RUN] FILE", help="a text, or - for standard input")],
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
    run, file = run_and_file(what)
    text, opening = whole(file, encoding), take(Opening, given)
    from charlm.inside.surprise import surprise

    def surprised(run: str) -> Surprise:
        path = folder.find(run, kind="text")
        with opened(run, path, opening) as writer:
            return watch(surprise(writer, text))

    found = surprised(run)
    value = as_json(found)
    if diff is None:
        view: RenderableType = Group(heat_map(found), Text(), summary(found))
    else:
        other = surprised(diff)
        value = {"run": value, "other": as_json(other), "ahead": (other.bits - found.bits).round(4).tolist()}
        view = Group(difference(found, other), Text(), versus(found, other, run, diff))
    present(view, value, json=json, html=html, svg=svg, png=png)


def run_and_file(what: list[str]) -> tuple[str, str]:
    """`[RUN] FILE`. Raises `SettingsError` for more than one run and file, `RunError` if there is no such run."""
    if len(what) > 2:
        raise SettingsError(f"one run and one file, got {len(what)}: {' '.join(what)}")
    run, file = what if len(what) == 2 else ("last", what[0])
    folder.find(run, kind="text")
    return run, file


def heat_map(found: Surprise) -> Text:
    from charlm.inside.surprise import HOT

    view = Text()
    for line, bits in found.lines():
        for c, b in zip(line, bits.tolist(), strict=True):
            view.append(visible(c, space=" "), heat(b / HOT))
        view.append(f"  {bits.mean():.2f}\n", "dim")
    return view


def difference(found: Surprise, other: Surprise) -> Text:
    view = Text()
    for (line, mine), (_, theirs) in zip(found.lines(), other.lines(), strict=True):
        for c, ahead in zip(line, (theirs - mine).tolist(), strict=True):
            view.append(visible(c, space=" "), tilt(-ahead / APART))  # blue: the run is ahead
        view.append(f"  {(theirs - mine).mean():+.2f}\n", "dim")
    return view


def summary(found: Surprise) -> Group:
    parts: list[RenderableType] = [
        Text(f"{found.bits_per_byte:.4f} bits per byte; the redder, the more surprising; at a line's end its mean")
    ]
    for title, totals in by(found).items():
        shown = table(title, ">characters", ">bits each")
        for total in totals:
            shown.add_row(total.name, f"{total.chars:,}", f"{total.bits:.3f}")
        parts += [Text(), shown]
    return Group(*parts)


def versus(found: Surprise, other: Surprise, run: str, diff: str) -> Group:
    parts: list[RenderableType] = [
        Text(
            f"{run} {found.bits_per_byte:.4f}, {diff} {other.bits_per_byte:.4f} bits per byte; "
            f"blue: {run} guesses better, red: {diff} does"
        )
    ]
    for (title, mine), theirs in zip(by(found).items(), by(other).values(), strict=True):
        shown = table(title, ">characters", f">{run}", f">{diff}")
        for a, b in zip(mine, theirs, strict=True):
            shown.add_row(a.name, f"{a.chars:,}", f"{a.bits:.3f}", f"{b.bits:.3f}")
        parts += [Text(), shown]
    return Group(*parts)


def by(found: Surprise) -> dict[str, list[Total]]:
    return {
        "kind of character": found.by_class(),
        "place in a word": found.by_place_in_word(),
        "text before it": found.by_distance(),
    }


def as_json(found: Surprise) -> dict[str, Any]:
    return {
        "bits_per_byte": found.bits_per_byte,
        "text": found.text,
        "bits": found.bits.round(4).tolist(),
        "lines": [{"text": "".join(line).rstrip("\n"), "bits": float(bits.sum())} for line, bits in found.lines()],
        **{title.replace(" ", "_"): [total._asdict() for total in totals] for title, totals in by(found).items()},
    }
