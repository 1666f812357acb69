"""`charlm translate`."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator
from functools import partial
from io import RawIOBase
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from charlm.cli.console import err, note, write
from charlm.cli.opened import OPENING
from charlm.cli.options import Encoding, Run, with_settings
from charlm.cli.pictures import save_as_named
from charlm.cli.texts import PIPED, spelled
from charlm.config import take
from charlm.errors import CharlmError, CorpusError, RunError, SettingsError, VocabularyError
from charlm.runs.opening import Opening
from charlm.sampling.settings import BeamSettings, SampleSettings, TranslateSettings

if TYPE_CHECKING:
    from charlm.sampling.translate import Translation
    from charlm.writer import Writer

TOGETHER = 512  # lines that are translated at once, if so many are there already
NAMED = 10  # lines that are named in a note
LOOK = 1.0  # seconds after which a wait looks up: on Windows Ctrl-C could not end it otherwise
AT_ONCE = 1 << 20  # bytes
TERMINAL = "-"


@with_settings(
    {
        "Decoding": BeamSettings,
        "Drawing, without a beam": SampleSettings,
        "Lines": TranslateSettings,
        **OPENING,
    }
)
def translate(
    run: Run = "last",
    file: Annotated[str, typer.Argument(help="lines to translate; - reads standard input")] = PIPED,
    encoding: Encoding = None,
    attention_map: Annotated[
        str | None,
        typer.Option(
            help="draw where the model looks: - in the terminal, or a file .svg .png .html .json for one line",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line, with log-probabilities")] = False,
    *,
    given: dict[str, Any],
) -> None:
    settings, (path, file) = take(TranslateSettings, given), run_and_file(run, file)
    from charlm.writer import Writer

    writer = Writer.load(path, take(Opening, given))
    writer.translate([], settings)  # refuses what makes no sense before anybody types
    if file == PIPED and sys.stdin.isatty():
        err.print("type a line, Enter translates it; Ctrl-D, or Ctrl-Z and Enter on Windows, ends", style="dim")
    picture = None if attention_map == TERMINAL else attention_map
    drawn, unread, unended = 0, Numbers(), Numbers()
    lines = answers(writer, blocks(file, encoding, whole=picture is not None), settings, picture)
    for number, (line, best) in enumerate(lines, 1):
        tell(line, best, json=json, numbered=settings.n_best > 1)
        unread.add(number, best and best[0].cut)
        unended.add(number, best and not best[0].finished)
        if attention_map and best:
            draw(writer, best[0], attention_map)
            drawn += 1
    longest = writer.model.spec.lengths.source  # tokens, with a newline
    if unread.count:
        note(f"longer than the {longest - 1} tokens that this run reads, and cut off there: {unread}")
    if unended.count:
        note(f"what was written had no end after {longest} tokens, and was cut off there: {unended}")
    if picture is not None and not drawn:
        raise SettingsError(f"there was no line to draw, so {picture} was not written")


class Numbers:
    """Numbers of lines, the first of which are named."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, number: int, wanted: object) -> None:
        if wanted:
            self.count += 1
            if self.count <= NAMED:
                self.first += f"{', ' if self.first else ''}{number}"

    def __str__(self) -> str:
        more = f" and {self.count - NAMED} more" if self.count > NAMED else ""
        return f"line{'s' if self.count > 1 else ''} {self.first}{more}"


def run_and_file(run: str, file: str) -> tuple[Path, str]:
    """What is meant, also where a file alone was named."""
    from charlm.runs import folder

    if file == PIPED and (run == PIPED or (not folder.is_run(Path(run)) and Path(run).is_file())):
        return folder.find("last", kind="pairs"), run
    try:
        return folder.find(run, kind="pairs"), file
    except RunError as error:
        hint = f"; a line is translated so: echo {run!r} | charlm translate"
        raise RunError(f"{error}{hint if file == PIPED and run not in ('last', 'best') else ''}") from None


def answers(
    writer: Writer, blocks: Iterator[list[str]], settings: TranslateSettings, picture: str | None
) -> Iterator[tuple[str, list[Translation]]]:
    """Every line of the blocks with its translations. Raises `SettingsError` for more than one where all of them are to
    be in one `picture`."""
    number = 0
    for lines in blocks:
        if picture is not None and sum(1 for line in lines if line.strip()) > 1:
            raise SettingsError(f"--attention-map {picture} holds one line, {len(lines)} were given; use - for all")
        yield from translated(writer, lines, settings, number)
        number += len(lines)


def translated(
    writer: Writer, lines: list[str], settings: TranslateSettings, number: int
) -> Iterator[tuple[str, list[Translation]]]:
    """Each line with its translations; a blank one has none. `number` is that of the first, from 0.

    Raises `VocabularyError` when the line's turn has come, so that those before it are not lost.
    """
    try:
        best = writer.translate([line if line.strip() else "" for line in lines], settings, first=number)
    except VocabularyError as error:
        if len(lines) == 1:
            raise VocabularyError(f"line {number + 1}: {error}") from None
        for at, line in enumerate(lines, number):
            yield from translated(writer, [line], settings, at)
        return
    for line, some in zip(lines, best, strict=True):
        yield line, some if line.strip() else []


def tell(line: str, found: list[Translation], *, json: bool, numbered: bool) -> None:
    """One line for each translation; an empty one stays empty."""
    if json:
        best = [{"text": t.text, "log_probability": t.log_probability, "finished": t.finished} for t in found]
        cut = any(t.cut for t in found)
        write(jsonlib.dumps({"source": line, "source_cut": cut, "translations": best}, ensure_ascii=False) + "\n")
    elif not numbered or not found:
        write((found[0].text if found else "") + "\n")
    else:
        for number, t in enumerate(found, 1):
            write(f"{number}\t{t.log_probability:.3f}\t{t.text}\n")


def draw(writer: Writer, best: Translation, where: str) -> None:
    from charlm.cli.attend import Map
    from charlm.inside.attend import aligned

    found = aligned(writer, best.source, best.ids, finished=best.finished)
    if where == TERMINAL:
        err.print(Map(found), markup=False)
    else:
        save_as_named(Path(where), Map(found), found.to_json())


def blocks(file: str, encoding: str | None, *, whole: bool) -> Iterator[list[str]]:
    """The file's lines, as many together as are there already; all of them if `whole`.

    Whoever types lines, or feeds them one by one, gets each answer at once. What cannot be read is raised after the
    lines before it.
    """
    waiting: Queue[str | Exception | None] = Queue(0 if whole else 2 * TOGETHER)
    Thread(target=feed, args=(file, encoding, waiting), daemon=True).start()
    end: str | Exception | None = ""
    while isinstance(end, str):
        block: list[str] = []
        while isinstance(end, str) and (whole or len(block) < TOGETHER):
            enough = bool(block) and not whole
            try:
                end = waiting.get_nowait() if enough else waiting.get(timeout=LOOK)
            except Empty:
                if enough:
                    break
                continue
            if isinstance(end, str):
                block.append(end)
        if block:
            yield block
    if end is not None:
        raise end


def feed(file: str, encoding: str | None, waiting: Queue[str | Exception | None]) -> None:
    """Put every line of the file, and at the end None, or what went wrong."""
    from charlm.text.corpus import Corpus
    from charlm.text.records import lines

    try:
        text = piped(encoding) if file == PIPED else Corpus.open([file], spelled(encoding)).raw()
        for line in lines(text):
            waiting.put(line)
    except CharlmError as error:
        waiting.put(error)
    except Exception as error:  # whatever it is, the other thread must not wait for ever
        waiting.put(CorpusError(f"{'standard input' if file == PIPED else file} cannot be read: {error}"))
    else:
        waiting.put(None)


def piped(encoding: str | None) -> Iterator[str]:
    """The text of standard input as it comes, from a keyboard as the terminal has it. It is the text of such a file."""
    from charlm.text.corpus import decoded
    from charlm.text.signatures import STANDARD_INPUT, unpacked

    if sys.stdin.isatty():
        encoding = encoding or sys.stdin.encoding
    stream = unpacked(standard_input(), STANDARD_INPUT)
    held: list[str] = []  # before the first newline: without any, carriage returns end lines
    text = decoded(stream, STANDARD_INPUT, spelled(encoding), partial(stream.read1, AT_ONCE))
    for piece in text:
        held.append(piece)
        if "\n" in piece:
            break
    else:
        held = [piece.replace("\r", "\n") for piece in held]
    yield from held
    yield from text


def standard_input() -> RawIOBase:
    """A reader of its own: at the end Python closes sys.stdin, which it cannot while a thread waits in it."""
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except OSError:  # it is no file of the system
        return cast(RawIOBase, sys.stdin.buffer)
