"""The texts that a command line names or holds, of whatever kind of data."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from charlm.cli.console import note, watch
from charlm.config import DataSettings
from charlm.errors import SettingsError

if TYPE_CHECKING:
    from charlm.kinds._base import AnyCorpus, Kind
    from charlm.text.corpus import Corpus

Files = Sequence[str] | None
PIPED = "-"
NO_BLEU = 'BLEU and chrF need an extra: pip install "charlm[translate]"'


def text_to_train_on(
    files: Files, source: Files, target: Files, given: Mapping[str, Any], readable: Collection[str]
) -> tuple[type[Kind], AnyCorpus]:
    """What the files hold, of the kinds that are `readable`, and of which kind it is."""
    from charlm import kinds

    if bool(source) != bool(target) or (files and source):
        raise SettingsError("pairs are one file of two columns, or two files: --source FILE --target FILE")
    encoding = given.get("encoding", DataSettings().encoding)
    return kinds.open_any(files or source or (), target or (), encoding, readable)


def other_text(files: Files, encoding: str | None) -> Corpus | None:
    """Another text than a run's own; None if none is named."""
    from charlm.text.corpus import Corpus

    if not files:
        return None
    text = Corpus.open(files, spelled(encoding))
    watch(text.survey())
    for said in text.notes:
        note(said)
    return text


def other_data(
    kind: type[Kind], named: Mapping[str, Files], encoding: str | None, source: Files = None, target: Files = None
) -> AnyCorpus | None:
    """Other data of a kind than a run's own; None if none are `named`, by the option that names them, or as two files.

    Raises `SettingsError` for data of another kind.
    """
    if bool(source) != bool(target):
        raise SettingsError("--source and --target belong together: line n of one to line n of the other")
    wrong = [option for option, files in named.items() if files and option != kind.option]
    if wrong or (source and not kind.has_source):
        raise SettingsError(f"this run was trained on {kind.noun}; score it on others with --{kind.option} FILE")
    files = named.get(kind.option) or source
    return kind.open(files, target or (), spelled(encoding)) if files else None


def spelled(encoding: str | None) -> str:
    """What a run was trained on says nothing of how other texts are encoded."""
    return encoding or DataSettings().encoding


def refuse_idle(encoding: str | None, *, read: bool, where: str) -> None:
    """Raises `SettingsError` for an encoding where nothing is `read` in it; `where` says what would be."""
    if encoding and not read:
        raise SettingsError(f"--encoding {encoding} is for a text that is read, and none is named; give {where}")


def read_words(option: str, typed: str, encoding: str | None) -> str:
    """Words as they were typed, or for - standard input, read like any text."""
    if typed == PIPED:
        return whole(typed, encoding)
    remark_on_escapes(option, typed)
    return typed


def remark_on_escapes(option: str, typed: str) -> None:
    """Where a new line was meant, perhaps."""
    if r"\n" in typed:
        note(rf"{option} holds a backslash and an n; a new line is typed as one, in the quotes or in bash as $'a\nb'")


def refuse_file(option: str, typed: str) -> None:
    """Raises `SettingsError` for a file's name given for words, where other commands take a file."""
    if os.path.isfile(typed):
        raise SettingsError(f"{option} takes words, and {typed} is a file; to read it: {option} - < {typed}")


def whole(file: str, encoding: str | None) -> str:
    """All of a text."""
    text = other_text([file], encoding)
    assert text is not None
    return "".join(text.chunks())
