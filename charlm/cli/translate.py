"""`charlm translate`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from charlm.cli.console import err, write
from charlm.cli.options import Device, Quantize, Weights, with_settings
from charlm.cli.pictures import save_as_named
from charlm.config import take
from charlm.errors import RunError, SettingsError
from charlm.sampling.settings import SampleSettings, TranslateSettings

if TYPE_CHECKING:
    from charlm.writer import Translation, Writer

TOGETHER = 512  # lines that are translated at once, if so many are there already
TERMINAL = "-"
FILTERS = {"top_k", "top_p", "min_p", "repetition_penalty"}
STANDARD_INPUT = 0  # what open() knows it by


@with_settings({"Decoding": TranslateSettings, "Sampling, without a beam": SampleSettings}, {"temperature": "0"})
def translate(
    run: Annotated[str, typer.Argument(help="run: a folder, a name under runs/, last or best")] = "last",
    file: Annotated[str, typer.Argument(help="lines to translate; - reads standard input")] = "-",
    attention_map: Annotated[
        str | None,
        typer.Option(
            help="draw where the model looks: - in the terminal, or a file .svg .png .html .json for one line",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="of --temperature: the same seed writes the same", min=0)] = 0,
    unknown: Annotated[
        Literal["error", "skip", "nearest"], typer.Option(help="what to do about characters the run never saw")
    ] = "error",
    weights: Annotated[Weights, typer.Option(help="the best on the validation pairs, or the last")] = "best",
    device: Annotated[Device, typer.Option(help="where to compute")] = "auto",
    quantize: Quantize = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line, with log-probabilities")] = False,
    *,
    given: dict[str, Any],
) -> None:
    """Translate lines of text with a run that was trained on pairs. [dim]echo "Guten Tag" | charlm translate[/]"""
    settings = take(TranslateSettings, given)
    sampling = take(SampleSettings, {"temperature": "0", **given})
    drawn = any(sampling.temperatures)
    if drawn and settings.beam > 1:
        raise SettingsError("--beam looks for the likeliest line and --temperature draws one; give one of them")
    if useless := sorted(given.keys() & FILTERS) if not drawn else []:
        flag = "--" + useless[0].replace("_", "-")
        raise SettingsError(f"{flag} is for lines that are drawn; give a --temperature above 0 with it")
    if sampling.novel:
        raise SettingsError("--novel is for charlm sample, which goes on with a text; leave it out")
    from charlm.runs import folder
    from charlm.writer import Writer

    try:
        path = folder.find(run)
    except RunError:
        if file != "-" or not Path(run).is_file():
            raise
        path, file = folder.find("last"), run  # a file alone was named
    writer = Writer.load(path, weights=weights, device=device, quantize=quantize)
    how = {"sampling": sampling if drawn else None, "seed": seed, "unknown": unknown}
    for lines in blocks(file, whole=attention_map not in (None, TERMINAL)):
        if attention_map not in (None, TERMINAL) and len(lines) != 1:
            raise SettingsError(
                f"--attention-map {attention_map} holds one line, {len(lines)} were given; use - for all"
            )
        found = iter(writer.translate([line for line in lines if line.strip()], settings, **how))
        for line in lines:
            translations = next(found) if line.strip() else []
            tell(line, translations, settings, json=json)
            if attention_map and translations:
                draw(writer, line, translations[0], attention_map)


def tell(line: str, found: list[Translation], settings: TranslateSettings, *, json: bool) -> None:
    """One line for each translation; an empty one stays empty."""
    if json:
        best = [{"text": t.text, "log_probability": t.log_probability, "finished": t.finished} for t in found]
        write(jsonlib.dumps({"source": line, "translations": best}, ensure_ascii=False) + "\n")
    elif settings.n_best == 1 or not found:
        write((found[0].text if found else "") + "\n")
    else:
        for number, t in enumerate(found, 1):
            write(f"{number}\t{t.log_probability:.3f}\t{t.text}\n")


def draw(writer: Writer, line: str, best: Translation, where: str) -> None:
    from charlm.cli.attend import Map
    from charlm.inside.attend import attend

    found = attend(writer, best.text, source=line.strip())
    if where == TERMINAL:
        err.print(Map(found), markup=False)
    else:
        save_as_named(Path(where), Map(found), found.to_json())


def blocks(file: str, *, whole: bool) -> Iterator[list[str]]:
    """The file's lines, as many together as are there already; all of them if `whole`.

    Whoever types lines, or feeds them one by one, gets each answer at once. Raises `SettingsError` where it cannot be.
    """
    waiting: SimpleQueue[str | Exception | None] = SimpleQueue()
    Thread(target=feed, args=(file, waiting), daemon=True).start()
    going = True
    while going:
        block: list[str] = []
        try:
            while going and (whole or len(block) < TOGETHER):
                line = waiting.get(block=whole or not block)
                if isinstance(line, Exception):
                    raise SettingsError(f"{'standard input' if file == '-' else file} cannot be read: {line}")
                going = line is not None
                if line is not None:
                    block.append(line)
        except Empty:
            pass
        if block:
            yield block


def feed(file: str, lines: SimpleQueue[str | Exception | None]) -> None:
    """Put every line of the file, or what went wrong, and at the end None."""
    try:
        with open(STANDARD_INPUT if file == "-" else file, "rb") as stream:
            for line in stream:
                lines.put(line.decode("utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        lines.put(error)
    lines.put(None)
