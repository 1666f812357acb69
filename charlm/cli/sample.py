"""`charlm sample`."""

from __future__ import annotations

import json as jsonlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.beside import collected, columns
from charlm.cli.console import err, note, show, watch, write
from charlm.cli.options import RUN, Device, Encoding, Quantize, Unknown, Weights, naming, with_settings
from charlm.cli.rows import Row
from charlm.cli.texts import PIPED, read_words, refuse_idle, remark_on_escapes, whole
from charlm.config import Arg, Settings, take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.sampling.settings import SampleSettings

if TYPE_CHECKING:
    from charlm.writer import Piece

LONG = 20_000  # characters of a prompt that take a moment to read


@dataclass(frozen=True)
class Amount(Settings):
    """How much to write."""

    length: Annotated[int, Arg("tokens to write, 0 = without end", min=0, max=10**15)] = 500
    samples: Annotated[int, Arg("texts to write, in one batch", min=1, max=65_536)] = 1
    novel: Annotated[
        int, Arg("copy at most so many characters in a row from the training text, 0 = any", min=0, max=10**6)
    ] = 0
    seed: Annotated[
        int | None, Arg("the same seed writes the same text [default: another each time]", min=0, max=2**63 - 1)
    ] = None


@with_settings({"How much": Amount, "Picking": SampleSettings})
def sample(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help=f"{RUN}; several with --side-by-side \\[default: last]",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="text to continue; - reads standard input")] = "",
    prompt_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="file whose text is continued; - reads standard input", show_default=False),
    ] = None,
    encoding: Encoding = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="end before this text (may be given several times)", show_default=False),
    ] = None,
    unknown: Unknown = "error",
    weights: Weights = "best",
    device: Device = "auto",
    quantize: Quantize = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="let several runs write in columns, with the same random numbers")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per text, with log-probabilities")] = False,
    *,
    given: dict[str, Any],
) -> None:
    amount, settings, runs = take(Amount, given), take(SampleSettings, given), run or ["last"]
    if len(runs) > 1 and not side_by_side:
        raise SettingsError(
            f"{len(runs)} runs were given; add --side-by-side to let them write in columns, or give one"
        )
    if side_by_side and amount.samples > 1:
        raise SettingsError("--side-by-side writes one text per run; leave --samples out")
    if amount.length == 0 and (amount.samples > 1 or json or side_by_side):
        raise SettingsError(
            "--length 0 writes one text without end; give a length with --samples, --json or --side-by-side"
        )
    if prompt and prompt_file:
        raise SettingsError("--prompt and --prompt-file both say what to continue; give one of them")
    refuse_idle(encoding, read=bool(prompt_file or prompt == PIPED), where="--prompt-file FILE")
    text = whole(prompt_file, encoding) if prompt_file else read_words("--prompt", prompt, encoding)
    seed = secrets.randbits(31) if amount.seed is None else amount.seed
    for one in stop or []:
        remark_on_escapes("--stop", one)
    paths = [folder.find(one, pairs=False) for one in runs]
    from charlm.writer import Writer

    def continued(run: str, path: Path) -> Iterator[Piece]:
        with naming(run, path):
            writer = Writer.load(path, weights=weights, device=device, quantize=quantize)
            known = training_text(path) if amount.novel else ""
            amounts = {"samples": amount.samples, "seed": seed, "novel": amount.novel}
            yield from writer.pieces(text, settings, **amounts, unknown=unknown, known=known, shared=side_by_side)

    if side_by_side:
        names = [str(path) for path in paths]
        beside = [
            watch(collected(name, continued(one, path), stop or [], amount.length))
            for one, path, name in zip(runs, paths, names, strict=True)
        ]
        if json:
            described = [row.described(text, seed) for row in beside]
            print(jsonlib.dumps([{"run": name, **row} for name, row in zip(names, described, strict=True)]))
        else:
            show(columns(names, text, beside))
        return
    pieces = continued(runs[0], paths[0])
    with err.status("reading the prompt") if len(text) > LONG else nullcontext():
        pieces = chain([next(pieces)], pieces)
    rows = [Row(stop or []) for _ in range(amount.samples)]
    streamed(pieces, rows, text, amount.length, seed, json=json)


def streamed(pieces: Iterator[Piece], rows: Sequence[Row], prompt: str, length: int, seed: int, *, json: bool) -> None:
    """Write what the rows hold: the first as it comes and the others after it, or all as JSON."""
    keep = len(rows) > 1 or json
    for number, piece in enumerate(pieces, 1):
        if number == 1 and not json:
            write(prompt)  # not before: a prompt that cannot be read must leave nothing behind
        logprobs = piece.logprobs.tolist() if json else [0.0] * len(rows)
        for row, new, logprob in zip(rows, piece.texts, logprobs, strict=True):
            row.add(new, logprob, keep=keep)
        if not json:
            write(rows[0].new)  # the first text streams, the others follow when all are done
        if number == length or all(row.until.done for row in rows):
            break
    if json:
        for row in rows:
            print(jsonlib.dumps(row.described(prompt, seed)))
        return
    write(rows[0].until.flush() + "\n")
    for row in rows[1:]:
        write(f"{'-' * 40}\n{prompt}{row.text()}\n")


def training_text(path: Path) -> str:
    """What --novel looks for copies of."""
    from charlm.scoring import known_text

    known = watch(known_text(folder.info(path)))
    if known.chars_before:
        note(f"--novel knows only the last {len(known.text):,} characters of the training text")
    return known.text
