"""The texts that a command line names or holds: running text, or pairs of a source and a target in one file or two."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from charlm.cli.console import note, watch
from charlm.config import DataSettings, take
from charlm.errors import SettingsError
from charlm.sampling.settings import TranslateSettings

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus
    from charlm.text.pairs import PairCorpus

Files = Sequence[str] | None
PIPED = "-"
NO_BLEU = 'BLEU and chrF need an extra: pip install "charlm[translate]"'


def text_to_train_on(
    files: Files, source: Files, target: Files, given: Mapping[str, Any], *, pairs: bool
) -> Corpus | PairCorpus:
    """Pairs where two files are given, or where `pairs` may be read and the text holds them; else running text."""
    from charlm.text.pairs import open_text

    if bool(source) != bool(target) or (files and source):
        raise SettingsError("pairs are one file of two columns, or two files: --source FILE --target FILE")
    return open_text(files or source or (), target or (), given.get("encoding", DataSettings().encoding), pairs=pairs)


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


def other_pairs(pairs: Files, source: Files, target: Files, encoding: str | None) -> PairCorpus | None:
    """Other pairs than a run's own; None if none are named."""
    from charlm.text.pairs import PairCorpus

    if bool(source) != bool(target):
        raise SettingsError("--source and --target belong together: line n of one to line n of the other")
    files = pairs or source
    return PairCorpus.open(files, target or (), spelled(encoding)) if files else None


def spelled(encoding: str | None) -> str:
    """What a run was trained on says nothing of how other texts are encoded."""
    return encoding or DataSettings().encoding


def refuse_idle(encoding: str | None, *, read: bool, where: str) -> None:
    """Raises `SettingsError` for an encoding where nothing is `read` in it; `where` says what would be."""
    if encoding and not read:
        raise SettingsError(f"--encoding {encoding} is for a text that is read, and none is named; give {where}")


def decoding(given: Mapping[str, Any]) -> TranslateSettings:
    """How lines are looked for. Raises `SettingsError` for what would be of no use."""
    settings = take(TranslateSettings, given)
    if "length_penalty" in given and settings.beam == 1:
        raise SettingsError("--length-penalty weighs the lines of a beam against each other; give a --beam above 1")
    return settings


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
