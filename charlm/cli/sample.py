"""`charlm sample`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.asking import refuse_unused
from charlm.cli.beside import columns
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import RUN, Encoding, with_settings
from charlm.cli.texts import PIPED, read_text, read_words, warn_of_escapes
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.sampling.settings import Amount, Prompt, Request, SampleSettings
from charlm.views.console import err, note, show, watch, write
from charlm.written import Row, collect

if TYPE_CHECKING:
    from charlm.writer import Piece

LONG = 20_000  # characters of a prompt that take a moment to read


@with_settings({"Prompt": Prompt, "How much": Amount, "Picking": SampleSettings, **OPENING})
def sample(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help=f"{RUN}; several with --side-by-side \\[default: last]",
            show_default=False,
        ),
    ] = None,
    prompt_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="file whose text is continued; - reads standard input",
            show_default=False,
            rich_help_panel="Prompt",
        ),
    ] = None,
    encoding: Encoding = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="let several runs write in columns, with the same random numbers")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per text, with log-probabilities")] = False,
    *,
    given: dict[str, Any],
) -> None:
    request, opening, runs = take(Request, given), take(Opening, given), run or ["last"]
    if len(runs) > 1 and not side_by_side:
        raise SettingsError(
            f"{len(runs)} runs were given; add --side-by-side to let them write in columns, or give one"
        )
    if side_by_side and request.samples > 1:
        raise SettingsError("--side-by-side writes one text per run; leave --samples out")
    if request.length == 0 and (request.samples > 1 or json or side_by_side):
        raise SettingsError(
            "--length 0 writes one text without end; give a length with --samples, --json or --side-by-side"
        )
    for stop in request.stop:
        warn_of_escapes("--stop", stop)
    prompt = read_prompt(request.prompt, prompt_file, encoding)
    request = replace(request, prompt=prompt, seed=request.chosen_seed())
    paths = [(name, folder.find(name, kind="text", command="")) for name in runs]
    if side_by_side:
        write_side_by_side(paths, request, opening, json=json)
    else:
        write_one(*paths[0], request, opening, json=json)


def read_prompt(prompt: str, file: str | None, encoding: str | None) -> str:
    """The prompt as it was typed, or from a file or standard input. Raises `SettingsError` if both are given."""
    if prompt and file:
        raise SettingsError("--prompt and --prompt-file both say what to continue; give one of them")
    refuse_unused(encoding, read=bool(file or prompt == PIPED), advice="--prompt-file FILE")
    return read_text(file, encoding) if file else read_words("--prompt", prompt, encoding)


def pieces(
    run: str, path: Path, request: Request, opening: Opening, *, shared: bool = False, logits: bool = True
) -> Iterator[Piece]:
    """What a run writes; arguments as of `Writer.pieces`."""
    with open_run(run, path, opening) as writer:
        if opening.device == "auto" and request.samples == 1 and not shared and not request.novel:
            line = writer.move_to_faster(request)
            if line and not logits:
                note(line)
        known = text_to_avoid(path) if request.novel else ""
        yield from writer.pieces(request, known=known, shared=shared, logits=logits)


def write_side_by_side(runs: Sequence[tuple[str, Path]], request: Request, opening: Opening, *, json: bool) -> None:
    """Print a text by every run, in columns."""
    names, rows = [str(path) for _, path in runs], []
    for run, path in runs:
        rows += watch(collect(str(path), pieces(run, path, request, opening, shared=True), request))
    if json:
        print(jsonlib.dumps([{"run": name, **row.to_json(request)} for name, row in zip(names, rows, strict=True)]))
    else:
        show(columns(names, request.prompt, rows))


def write_one(run: str, path: Path, request: Request, opening: Opening, *, json: bool) -> None:
    """Print the texts of one run: the first while it is written and the others after it, or all as JSON."""
    stream = pieces(run, path, request, opening, logits=json)
    with err.status("reading the prompt") if len(request.prompt) > LONG else nullcontext():
        stream = chain([next(stream)], stream)  # an error in the prompt comes before any output
    rows = [Row(request.stop) for _ in range(request.samples)]
    if not json:
        write(request.prompt)
    for piece in stream:
        logprobs = piece.logprobs.tolist() if json else [0.0] * len(rows)
        for row, new, logprob in zip(rows, piece.texts, logprobs, strict=True):
            row.add(new, logprob, keep=len(rows) > 1 or json)
        if not json:
            write(rows[0].new)
        if all(row.until.done for row in rows):
            break
    if json:
        for row in rows:
            print(jsonlib.dumps(row.to_json(request)))
        return
    write(rows[0].until.flush() + "\n")
    for row in rows[1:]:
        write(f"{'-' * 40}\n{request.prompt}{row.text()}\n")


def text_to_avoid(path: Path) -> str:
    """The training text, which `--novel` does not copy."""
    from charlm.scoring import training_text

    trained = watch(training_text(folder.info(path)))
    if trained.chars_before:
        note(f"--novel knows only the last {len(trained.text):,} characters of the training text")
    return trained.text
