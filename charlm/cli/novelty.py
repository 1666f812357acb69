"""`charlm novelty`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from charlm.cli import console
from charlm.cli.opened import OPENING, naming, opened
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, heat, present
from charlm.cli.texts import refuse_idle, whole
from charlm.config import Arg, Settings, take
from charlm.errors import CorpusError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.visible import printable

if TYPE_CHECKING:
    from charlm.inside.novelty import Novelty
    from charlm.scoring import TrainingText

LONGEST = 10**6  # characters that are looked at
PALE, RED = 12, 64  # characters of a copied passage that get the first colour and the last


@dataclass(frozen=True)
class Written(Settings):
    """What the run writes, to be looked at."""

    length: Annotated[int, Arg("characters to write", min=1, max=LONGEST)] = 2000
    temperature: Annotated[str, Arg("as in charlm sample")] = "0.8"
    seed: Annotated[int, Arg("the same seed writes the same text", min=0, max=2**63 - 1)] = 0


@with_settings({"What is written": Written, **OPENING})
def novelty(
    run: Run = "last",
    text: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="look at this instead of a sample; - reads standard input", show_default=False
        ),
    ] = None,
    encoding: Encoding = None,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    *,
    given: dict[str, Any],
) -> None:
    refuse_idle(encoding, read=text is not None, where="--text FILE")
    how, found = take(Written, given), folder.info(folder.find(run, kind="text"))
    from charlm.inside import novelty as inside
    from charlm.scoring import training_text

    with naming(run, found.path):
        known = console.watch(training_text(found))
    if text is None:
        with opened(run, found.path, take(Opening, given)) as writer:
            looked_at = console.watch(inside.written(writer, how.length, temperature=how.temperature, seed=how.seed))
    else:
        looked_at = whole(text, encoding)
        if not 0 < len(looked_at) <= LONGEST:
            raise CorpusError(f"{text} holds {len(looked_at):,} characters; name a text of 1 to {LONGEST:,}")
    result = console.watch(inside.novelty(looked_at, known.text, known.held_out))
    names = found.config["corpus"]["paths"]
    place = names[0] if len(names) == 1 else "the training text"
    view = Group(*drawn(result, looked_at, known, place))
    value = {
        "run": str(found.path),
        "text": looked_at,
        "searched_chars": len(known.text),
        "shares": result.shares,
        "held_out_shares": result.held_out,
        "longest": {**result.longest._asdict(), "known_at": known.chars_before + result.longest.known_at}
        | {"chars": len(result.longest.text), "line": line(result, known)},
        "held_out_longest": result.longest_held_out,
        "copied": result.copied.tolist(),
    }
    present(view, value, json=json, html=html, svg=svg, png=png)


def drawn(result: Novelty, text: str, known: TrainingText, place: str) -> Iterator[Any]:
    """A table, the longest passage, and the text with what is copied in colour."""
    shown = console.table(">characters in a row", ">of this text", ">of held-out text", title="copied")
    for n, share in result.shares.items():
        shown.add_row(str(n), f"{share:.1%}", f"{result.held_out[n]:.1%}" if n in result.held_out else "")
    longest = result.longest
    shown.add_row("longest", str(len(longest.text)), str(result.longest_held_out))
    yield shown
    if result.held_out:
        yield Text("\nheld-out text was not trained on: what it shares is what people repeat anyway")
    where = f"{place}, line {line(result, known):,} (character {known.chars_before + longest.known_at:,})"
    if longest.text:
        yield Text(f"\nlongest copy, here at character {longest.at:,}, there in {where}:\n{longest.text!r}")
    if known.chars_before:
        yield Text(f"only the last {len(known.text):,} characters of the training text were searched")
    yield Text(f"\nred: copied, the redder the longer, from {PALE} characters in a row to {RED} and more\n")
    colours, at = Text(), 0
    for length, group in groupby(result.copied.tolist()):
        size = len(list(group))
        share = 0.2 + 0.8 * (min(length, RED) - PALE) / (RED - PALE)  # the palest must be seen too
        colours.append(printable(text[at : at + size]), heat(share) if length >= PALE else "")
        at += size
    yield colours


def line(result: Novelty, known: TrainingText) -> int:
    """In which line of the whole text the longest passage begins, from 1."""
    return 1 + known.lines_before + known.text.count("\n", 0, result.longest.known_at)
