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
from charlm.cli.opened import OPENING, errors_name_run, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, heat, present
from charlm.cli.texts import read_text, refuse_unused
from charlm.config import Arg, Settings, take
from charlm.errors import CorpusError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.visible import printable

if TYPE_CHECKING:
    from charlm.inside.novelty import Novelty
    from charlm.scoring import TrainingText

LONGEST = 10**6  # characters of a text
PALE, RED = 12, 64  # characters: copied passages of these lengths get the palest and the reddest colour


@dataclass(frozen=True)
class Sampling(Settings):
    """How the run writes the text that is examined."""

    length: Annotated[int, Arg("characters to write", min=1, max=LONGEST)] = 2000
    temperature: Annotated[str, Arg("as in charlm sample")] = "0.8"
    seed: Annotated[int, Arg("the same seed writes the same text", min=0, max=2**63 - 1)] = 0


@with_settings({"What is written": Sampling, **OPENING})
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
    refuse_unused(encoding, read=text is not None, advice="--text FILE")
    sampling, info = take(Sampling, given), folder.info(folder.find(run, kind="text"))
    from charlm.inside import novelty as inside
    from charlm.scoring import training_text

    with errors_name_run(run, info.path):
        trained = console.watch(training_text(info))
    if text is None:
        with open_run(run, info.path, take(Opening, given)) as writer:
            work = inside.written(writer, sampling.length, temperature=sampling.temperature, seed=sampling.seed)
            examined = console.watch(work)
    else:
        examined = read_text(text, encoding)
        if not 0 < len(examined) <= LONGEST:
            raise CorpusError(f"{text} holds {len(examined):,} characters; name a text of 1 to {LONGEST:,}")
    result = console.watch(inside.novelty(examined, trained.text, trained.held_out))
    paths = info.config["corpus"]["paths"]
    name = paths[0] if len(paths) == 1 else "the training text"
    view = Group(*parts(result, examined, trained, name))
    present(
        view,
        lambda: {"run": str(info.path), **as_json(result, examined, trained)},
        json=json,
        html=html,
        svg=svg,
        png=png,
    )


def as_json(result: Novelty, text: str, trained: TrainingText) -> dict[str, Any]:
    longest = result.longest
    return {
        "text": text,
        "searched_chars": len(trained.text),
        "shares": result.shares,
        "held_out_shares": result.held_out,
        "longest": {**longest._asdict(), "known_at": trained.chars_before + longest.known_at}
        | {"chars": len(longest.text), "line": line(result, trained)},
        "held_out_longest": result.longest_held_out,
        "copied": result.copied.tolist(),
    }


def parts(result: Novelty, text: str, trained: TrainingText, name: str) -> Iterator[Any]:
    """The parts of the view: a table, the longest copied passage, and the text with copies in colour."""
    shares = console.table(">characters in a row", ">of this text", ">of held-out text", title="copied")
    for n, share in result.shares.items():
        shares.add_row(str(n), f"{share:.1%}", f"{result.held_out[n]:.1%}" if n in result.held_out else "")
    longest = result.longest
    shares.add_row("longest", str(len(longest.text)), str(result.longest_held_out))
    yield shares
    if result.held_out:
        yield Text("\nheld-out text was not trained on: what it shares is what people repeat anyway")
    source = f"{name}, line {line(result, trained):,} (character {trained.chars_before + longest.known_at:,})"
    if longest.text:
        yield Text(f"\nlongest copy, here at character {longest.at:,}, there in {source}:\n{longest.text!r}")
    if trained.chars_before:
        yield Text(f"only the last {len(trained.text):,} characters of the training text were searched")
    yield Text(f"\nred: copied, the redder the longer, from {PALE} characters in a row to {RED} and more\n")
    colours, position = Text(), 0
    for length, group in groupby(result.copied.tolist()):
        size = len(list(group))
        share = 0.2 + 0.8 * (min(length, RED) - PALE) / (RED - PALE)  # the palest is visible too
        colours.append(printable(text[position : position + size]), heat(share) if length >= PALE else "")
        position += size
    yield colours


def line(result: Novelty, trained: TrainingText) -> int:
    """The line of the whole training text in which the longest copied passage begins, from 1."""
    return 1 + trained.lines_before + trained.text.count("\n", 0, result.longest.known_at)
