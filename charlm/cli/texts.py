"""The data that a command line names, of any kind, and the words that it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.asking import Files, or_default, refuse_unused
from charlm.errors import RunError, SettingsError
from charlm.views.console import note, watch

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus

PIPED = "-"
NAMED = 10  # most numbers in a note
NO_BLEU = 'BLEU and chrF need an extra: pip install -e ".[translate]"'


def other_text(files: Files, encoding: str | None) -> Corpus | None:
    """The text in the `files` of --text, to be used instead of the run's own; None without files.

    Raises `SettingsError` for an encoding without them.
    """
    refuse_unused(encoding, read=bool(files), advice="--text FILE")
    from charlm.text.corpus import Corpus

    if not files:
        return None
    text = Corpus.open(files, or_default(encoding))
    watch(text.survey())
    for message in text.notes:
        note(message)
    return text


def read_words(option: str, typed: str, encoding: str | None) -> str:
    """The value of an option as it was typed, or for `-` the text of standard input."""
    if typed == PIPED:
        return read_text(typed, encoding)
    warn_of_escapes(option, typed)
    return typed


def read_words_and_source(text: str, source: str | None, encoding: str | None) -> tuple[str, str | None]:
    """The values of --text and --source. Raises `SettingsError` for the name of a file."""
    refuse_unused(encoding, read=PIPED in (text, source), advice="--text -")
    for option, words in (("--text", text), ("--source", source or "")):
        refuse_file(option, words)
    read = read_words("--text", text, encoding)
    return read, None if source is None else read_words("--source", source, encoding)


def warn_of_escapes(option: str, typed: str) -> None:
    r"""Note that a typed `\n` is no newline."""
    if r"\n" in typed:
        note(rf"{option} holds a backslash and an n; a new line is typed as one, in the quotes or in bash as $'a\nb'")


def refuse_file(option: str, typed: str) -> None:
    """Raise `SettingsError` if `typed` is a file, for an option that takes the text itself."""
    if os.path.isfile(typed):
        raise SettingsError(f"{option} takes words, and {typed} is a file; to read it: {option} - < {typed}")


def read_text(file: str, encoding: str | None) -> str:
    """The whole text of a file, or of standard input for `-`."""
    text = other_text([file], encoding)
    assert text is not None
    return "".join(text.chunks())


def run_and_file(run: str, file: str, find: Callable[[str], Path], advice: str) -> tuple[Path, str]:
    """(run folder, file), also if a file alone was given.

    `find` gives a run's folder; `advice` says, with a place for the words, what they may have meant instead of a run.
    Raises `RunError` for a run that does not exist.
    """
    from charlm.runs.folder import is_run

    if file == PIPED and (run == PIPED or (not is_run(Path(run)) and Path(run).is_file())):
        return find("last"), run
    try:
        return find(run), file
    except RunError as error:
        hint = f"; {advice.format(run)}" if file == PIPED and run not in ("last", "best") else ""
        raise RunError(f"{error}{hint}") from None


class LineNumbers:
    """Counts lines, or other things in order, and lists the numbers of the first ones."""

    def __init__(self, noun: str = "line") -> None:
        self.noun, self.count, self.first = noun, 0, ""

    def add(self, number: int) -> None:
        self.count += 1
        if self.count <= NAMED:
            self.first += f"{', ' if self.first else ''}{number}"

    def __str__(self) -> str:
        more = f" and {self.count - NAMED} more" if self.count > NAMED else ""
        return f"{self.noun}{'s' if self.count > 1 else ''} {self.first}{more}"
