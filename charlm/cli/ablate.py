"""`charlm ablate`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from charlm import kinds
from charlm.asking import other_data, refuse_unused
from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import Encoding, Json, OtherText, Run, with_settings
from charlm.cli.pictures import Html, Png, Svg, present
from charlm.config import take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.console import table, watch
from charlm.views.pictures import tilt

if TYPE_CHECKING:
    from charlm.inside.ablate import Ablation, Loss

CELL = 8  # columns
MOST = 64  # different names of parts that get a column; units are more


@with_settings(OPENING, without={"quantize"})
def ablate(
    run: Run = "last",
    text: OtherText = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="of a run that translates: other pairs, a .tsv or .jsonl file", show_default=False),
    ] = None,
    encoding: Encoding = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            help="score the first so many bytes \\[default: the fewer, the more parts]", min=1, show_default=False
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="parts in the list, the most missed first", min=1, max=100_000)] = 10,
    json: Json = False,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    *,
    given: dict[str, Any],
) -> None:
    path = folder.find(run)
    refuse_unused(encoding, read=bool(text or pairs), advice="--text FILE, or --pairs FILE")
    others = other_data(kinds.load(folder.info(path).kind), {"text": text, "pairs": pairs}, encoding)
    from charlm.inside.ablate import ablate as switch_off

    with errors_name_run(run, path):
        work = switch_off(path, corpus=others, max_bytes=max_bytes, opening=take(Opening, given))
        ablation = watch(work)
    present(Losses(ablation, top), ablation.to_json, json=json, html=html, svg=svg, png=png)


class Losses:
    """The score, a grid of what is lost by place and part, and the parts that are missed most."""

    def __init__(self, ablation: Ablation, top: int) -> None:
        self.ablation, self.top = ablation, top

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        score, losses = self.ablation.score, self.ablation.losses
        yield Text(f"{score.value:.4f} {score.measure.words} on {score.bytes:,} bytes, with all parts")
        yield Text("what is lost without a part; below 0, it does better without")
        yield from grid(losses, options.max_width)
        ranked = self.ablation.ranked[: self.top]
        yield Text()
        shown = table("without", ">" + score.measure.words)
        for loss in ranked:
            shown.add_row(f"{loss.place}, {loss.name}", f"{loss.lost:+.4f}")
        yield shown
        listed = f"the first {len(ranked)} of {len(losses)}" if len(ranked) < len(losses) else f"all {len(losses)}"
        yield Text(f"{listed}, by {score.bytes:,} bytes each; a surer order: --max-bytes N", "dim")


def grid(losses: list[Loss], width: int) -> Iterator[Text]:
    """A row per place and a column per name of its parts, in as many panels as the width needs."""
    names = list(dict.fromkeys(loss.name for loss in losses))
    names = names if len(names) <= MOST else names[:1]
    rows: dict[str, dict[str, float]] = {}
    for loss in losses:
        rows.setdefault(loss.place, {})[loss.name] = loss.lost
    side = max(map(len, rows))
    highest = max(abs(loss.lost) for loss in losses) or 1.0
    step = max(1, (width - side) // CELL)
    for start in range(0, len(names), step):
        panel = names[start : start + step]
        yield Text("\n" + " " * side + "".join(f"{name:>{CELL}}" for name in panel), no_wrap=True)
        for place, values in rows.items():
            if not values.keys() & set(panel):
                continue
            row = Text(place.ljust(side), no_wrap=True)
            for lost in map(values.get, panel):
                if lost is None:
                    row.append(" " * CELL)
                else:  # the root makes small losses visible
                    share = math.copysign(math.sqrt(abs(lost) / highest), lost)
                    row.append("  ").append(f"{lost:+{CELL - 2}.3f}", tilt(share))
            yield row
