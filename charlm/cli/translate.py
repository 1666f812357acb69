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

from charlm.asking import or_default
from charlm.cli.opened import OPENING
from charlm.cli.options import Encoding, Run, with_settings
from charlm.cli.pictures import save_as_named
from charlm.cli.texts import PIPED, LineNumbers, run_and_file
from charlm.config import take
from charlm.errors import CharlmError, CorpusError, SettingsError, VocabularyError
from charlm.runs.opening import Opening
from charlm.sampling.settings import BeamSettings, SampleSettings, TranslateSettings
from charlm.views.console import err, note, write

if TYPE_CHECKING:
    from charlm.sampling.translate import Translation
    from charlm.writer import Writer

BLOCK = 512  # most lines that are translated at once
TIMEOUT = 1.0  # seconds: on Windows Ctrl-C cannot end a wait without a timeout
READ = 1 << 20  # bytes that are read at once
TERMINAL = "-"  # the value of --attention-map for the terminal


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
    settings = take(TranslateSettings, given)
    path, file = run_and_file(run, file, find, "a line is translated so: echo {!r} | charlm translate")
    from charlm.writer import Writer

    writer = Writer.load(path, take(Opening, given))
    writer.translate([], settings)  # raises for wrong settings before any line is read
    if file == PIPED and sys.stdin.isatty():
        err.print("type a line, Enter translates it; Ctrl-D, or Ctrl-Z and Enter on Windows, ends", style="dim")
    picture = None if attention_map == TERMINAL else attention_map
    drawn, cut, unfinished = 0, LineNumbers(), LineNumbers()
    lines = translate_blocks(writer, blocks(file, encoding, whole=picture is not None), settings, picture)
    for number, (line, best) in enumerate(lines, 1):
        print_translations(line, best, json=json, numbered=settings.n_best > 1)
        if best and best[0].cut:
            cut.add(number)
        if best and not best[0].finished:
            unfinished.add(number)
        if attention_map and best:
            draw(writer, best[0], attention_map)
            drawn += 1
    longest = writer.model.spec.lengths.source  # tokens, with a newline
    if cut.count:
        note(f"longer than the {longest - 1} tokens that this run reads, and cut off there: {cut}")
    if unfinished.count:
        note(f"what was written had no end after {longest} tokens, and was cut off there: {unfinished}")
    if picture is not None and not drawn:
        raise SettingsError(f"there was no line to draw, so {picture} was not written")


def find(run: str) -> Path:
    """The folder of a run; `last` and `best` choose among those that were trained on pairs."""
    from charlm.runs import folder

    return folder.find(run, kind="pairs")


def translate_blocks(
    writer: Writer, blocks: Iterator[list[str]], settings: TranslateSettings, picture: str | None
) -> Iterator[tuple[str, list[Translation]]]:
    """(line, translations) for every line of the blocks. Raises `SettingsError` for a second line if a file, `picture`,
    is to show the attention of one."""
    number = 0
    for lines in blocks:
        if picture is not None and sum(1 for line in lines if line.strip()) > 1:
            raise SettingsError(f"--attention-map {picture} holds one line, {len(lines)} were given; use - for all")
        yield from translate_block(writer, lines, settings, number)
        number += len(lines)


def translate_block(
    writer: Writer, lines: list[str], settings: TranslateSettings, number: int
) -> Iterator[tuple[str, list[Translation]]]:
    """(line, translations) for every line; a blank one has none. `number` is that of the first line, from 0.

    Raises `VocabularyError` for a line after yielding the lines before it.
    """
    try:
        best = writer.translate([line if line.strip() else "" for line in lines], settings, first=number)
    except VocabularyError as error:
        if len(lines) == 1:
            raise VocabularyError(f"line {number + 1}: {error}") from None
        for line_number, line in enumerate(lines, number):
            yield from translate_block(writer, [line], settings, line_number)
        return
    for line, translations in zip(lines, best, strict=True):
        yield line, translations if line.strip() else []


def print_translations(line: str, translations: list[Translation], *, json: bool, numbered: bool) -> None:
    """Print a line for every translation, or a JSON object; for a blank line an empty one."""
    if json:
        best = [t.to_json() for t in translations]
        cut = any(t.cut for t in translations)
        write(jsonlib.dumps({"source": line, "source_cut": cut, "translations": best}, ensure_ascii=False) + "\n")
    elif not numbered or not translations:
        write((translations[0].text if translations else "") + "\n")
    else:
        for number, t in enumerate(translations, 1):
            write(f"{number}\t{t.log_probability:.3f}\t{t.text}\n")


def draw(writer: Writer, best: Translation, target: str) -> None:
    """Draw the attention of a translation to a file, or to the terminal."""
    from charlm.inside.attend import aligned
    from charlm.views.attend import AttentionMap

    attended = aligned(writer, best.source, best.ids, finished=best.finished)
    if target == TERMINAL:
        err.print(AttentionMap(attended), markup=False)
    else:
        save_as_named(Path(target), AttentionMap(attended), attended.to_json)


def blocks(file: str, encoding: str | None, *, whole: bool) -> Iterator[list[str]]:
    """The file's lines in lists of those that have arrived, `BLOCK` at most; with `whole` in one list.

    So a line that is typed, or piped by a program that waits for the answer, is answered at once. Errors of reading are
    raised after the lines before them.
    """
    queue: Queue[str | Exception | None] = Queue(0 if whole else 2 * BLOCK)
    Thread(target=read_lines, args=(file, encoding, queue), daemon=True).start()
    item: str | Exception | None = ""
    while isinstance(item, str):
        block: list[str] = []
        while isinstance(item, str) and (whole or len(block) < BLOCK):
            ready = bool(block) and not whole
            try:
                item = queue.get_nowait() if ready else queue.get(timeout=TIMEOUT)
            except Empty:
                if ready:
                    break
                continue
            if isinstance(item, str):
                block.append(item)
        if block:
            yield block
    if item is not None:
        raise item


def read_lines(file: str, encoding: str | None, queue: Queue[str | Exception | None]) -> None:
    """Put every line of the file into the queue, and at the end None, or the error that ended the reading."""
    from charlm.text.corpus import Corpus
    from charlm.text.records import lines

    try:
        text = read_piped(encoding) if file == PIPED else Corpus.open([file], or_default(encoding)).raw()
        for line in lines(text):
            queue.put(line)
    except CharlmError as error:
        queue.put(error)
    except Exception as error:  # of any kind, or the other thread would wait for ever
        queue.put(CorpusError(f"{'standard input' if file == PIPED else file} cannot be read: {error}"))
    else:
        queue.put(None)


def read_piped(encoding: str | None) -> Iterator[str]:
    """The text of standard input in pieces as they arrive, read like a file; from a keyboard in its own encoding."""
    from charlm.text.corpus import decoded
    from charlm.text.signatures import STANDARD_INPUT, unpacked

    if sys.stdin.isatty():
        encoding = encoding or sys.stdin.encoding
    stream = unpacked(standard_input(), STANDARD_INPUT)
    beginning: list[str] = []  # up to the first newline: in a text without any, carriage returns end lines
    text = decoded(stream, STANDARD_INPUT, or_default(encoding), partial(stream.read1, READ))
    for piece in text:
        beginning.append(piece)
        if "\n" in piece:
            break
    else:
        beginning = [piece.replace("\r", "\n") for piece in beginning]
    yield from beginning
    yield from text


def standard_input() -> RawIOBase:
    """Standard input, opened anew: at exit Python closes sys.stdin, which would hang while a thread waits in it."""
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except OSError:  # it has no file descriptor
        return cast(RawIOBase, sys.stdin.buffer)
