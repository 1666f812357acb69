"""`charlm features`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm.asking import or_default
from charlm.cli.opened import OPENING, open_run, run_and
from charlm.cli.options import Encoding, with_settings
from charlm.config import take
from charlm.errors import SettingsError
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.sampling.settings import Prompt
from charlm.text.corpus import Corpus
from charlm.views.console import count, note, watch, write

if TYPE_CHECKING:
    from charlm.inside.features import Line

STRIDE = 64  # lines between two reports of progress
DIGITS = 6  # behind the point


@with_settings({"Reading": Prompt, **OPENING}, without={"prompt", "quantize"})
def features(
    names: Annotated[list[str], typer.Argument(metavar="[RUN] FILE", help="a text, or - for standard input")],
    out: Annotated[
        Path | None, typer.Option(help="file for the vectors, .npy or .safetensors", show_default=False)
    ] = None,
    layer: Annotated[
        str, typer.Option(help="last, mix (the mean of all, or as learnt), or a number; 0 is the embedding")
    ] = "last",
    pool: Annotated[
        Literal["mean", "last", "none"],
        typer.Option(help="a vector per line: the mean of its tokens', or the last one's; none: a vector per token"),
    ] = "mean",
    encoding: Encoding = None,
    json: Annotated[bool, typer.Option("--json", help="instead of --out: one JSON object per line")] = False,
    *,
    given: dict[str, Any],
) -> None:
    if (out is None) != json:
        raise SettingsError("give --out FILE, which may end in .npy or .safetensors, or --json")
    run, file = run_and(names, "file")
    path, text = folder.find(run), Corpus.open([file], or_default(encoding))
    from charlm.inside.arrays import array_file, refuse_ending
    from charlm.inside.features import features as vectors

    if out is not None:
        refuse_ending(out)
    watch(text.survey())
    if not text.chars:
        raise SettingsError(f"{file} holds no text; there is no line to read")
    with open_run(run, path, take(Opening, given)) as writer:
        lines = vectors(writer, split(text.chunks()), layer=layer, pool=pool, unknown=take(Prompt, given).unknown)
        if out is None:
            print_lines(lines, pool)
            return
        with array_file(out, {"layer": layer, "pool": pool}, borders=pool == "none") as rows:
            cut = watch(added(lines, rows.add, text.bytes))
    for message in text.notes:
        note(message)
    if cut:
        note(f"{cut:,} lines are longer than this run reads at once; they were read in pieces")
    (number, width), of_what = rows.shape, "token" if pool == "none" else "line"
    print(f"{out}: {number:,} x {width}, a row per {of_what}, {count(4 * number * width)} bytes")


def split(chunks: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, without their newlines."""
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        yield from lines
    if rest:
        yield rest


def added(lines: Iterable[Line], add: Any, size: int) -> Generator[Progress, None, int]:
    """Hand on the vectors of all lines; returns how many lines were read in pieces. `size` is the text's, in bytes."""
    cut = done = 0
    for number, line in enumerate(lines, 1):
        add(line.vectors)
        cut += line.pieces > 1
        done += 1 + len(line.text.encode("utf-8", "surrogatepass"))
        if number % STRIDE == 0:
            yield Progress("reading", min(done, size), size)
    return cut


def print_lines(lines: Iterable[Line], pool: str) -> None:
    name = "vectors" if pool == "none" else "vector"
    for line in lines:
        values = [[round(x, DIGITS) for x in row] for row in line.vectors.reshape(-1, line.vectors.shape[-1]).tolist()]
        said = {"text": line.text, name: values if pool == "none" else values[0]}
        write(jsonlib.dumps(said, ensure_ascii=False) + "\n")
