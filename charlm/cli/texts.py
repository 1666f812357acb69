"""The texts that a command line names or holds: running text, or pairs of a source and a target in one file or two."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.config import DataSettings, take
from charlm.errors import SettingsError
from charlm.runs.folder import RunInfo
from charlm.sampling.settings import TranslateSettings

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus
    from charlm.text.pairs import PairCorpus

Files = Sequence[str] | None
NO_BLEU = 'BLEU and chrF need an extra: pip install "charlm[translate]"'


def text_to_train_on(
    files: Files, source: Files, target: Files, given: Mapping[str, Any], *, pairs: bool
) -> Corpus | PairCorpus:
    """Pairs where two files are given, or where `pairs` may be read and the text holds them; else running text."""
    from charlm.text.pairs import open_text

    if bool(source) != bool(target) or (files and source):
        raise SettingsError("pairs are one file of two columns, or two files: --source FILE --target FILE")
    return open_text(files or source or (), target or (), given.get("encoding", DataSettings().encoding), pairs=pairs)


def pairs_to_score(run: RunInfo, pairs: Files, source: Files, target: Files) -> PairCorpus | None:
    """Other pairs than the run's own, in its encoding; None if none are named."""
    from charlm.text.pairs import PairCorpus

    if bool(source) != bool(target):
        raise SettingsError("--source and --target belong together: line n of one to line n of the other")
    files = pairs or source
    return PairCorpus.open(files, target or (), run.config["data"]["encoding"]) if files else None


def decoding(given: Mapping[str, Any]) -> TranslateSettings:
    """How lines are looked for. Raises `SettingsError` for what would be of no use."""
    settings = take(TranslateSettings, given)
    if "length_penalty" in given and settings.beam == 1:
        raise SettingsError("--length-penalty weighs the lines of a beam against each other; give a --beam above 1")
    return settings


def read_prompt(prompt: str, file: Path | None = None) -> str:
    """What is to be continued: the words typed, a file, or for - standard input."""
    if prompt and file:
        raise SettingsError("--prompt and --prompt-file both say what to continue; give one of them")
    piped = "-" in (prompt, str(file))
    if file is None and not piped:
        return prompt
    try:
        return (sys.stdin.buffer.read() if piped or file is None else file.read_bytes()).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the prompt in {'standard input' if piped else file} cannot be read: {error}") from None


def read_words(option: str, typed: str) -> str:
    """`read_prompt`, where other commands take a file. Raises `SettingsError` for a file's name, not meant as words."""
    if os.path.isfile(typed):
        raise SettingsError(f"{option} takes words, and {typed} is a file; to read it: {option} - < {typed}")
    return read_prompt(typed)
