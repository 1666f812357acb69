"""`charlm novelty`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from charlm.asking import refuse_unused
from charlm.cli.opened import OPENING, errors_name_run, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.cli.texts import read_text
from charlm.config import Arg, Settings, take
from charlm.errors import CorpusError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views import console
from charlm.views.novelty import view

LONGEST = 10**6  # characters of a text


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
    sampling, info = take(Sampling, given), folder.info(folder.find(run, kind="text", command=""))
    from charlm.inside import novelty as inside
    from charlm.scoring import training_text

    with errors_name_run(run, info.path):
        trained = console.watch(training_text(info))
    if text is None:
        with open_run(run, info.path, take(Opening, given)) as writer:
            work = inside.written(writer, sampling.length, temperature=sampling.temperature, seed=sampling.seed)
            words = console.watch(work)
    else:
        words = read_text(text, encoding)
        if not 0 < len(words) <= LONGEST:
            raise CorpusError(f"{text} holds {len(words):,} characters; name a text of 1 to {LONGEST:,}")
    examined = console.watch(inside.examine(words, trained))
    value = {"run": str(info.path), **examined.to_json()}
    present(view(examined), lambda: value, json=json, html=html, svg=svg, png=png)
