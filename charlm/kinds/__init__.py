"""Kinds of data, one per file: how data of a kind are read, shown, evaluated and compared. The file names the kind."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.discovery import Folder
from charlm.errors import SettingsError
from charlm.text.corpus import Corpus

if TYPE_CHECKING:
    from charlm.kinds._base import AnyCorpus, Kind

TEXT, PAIRS, LABELS = "text", "pairs", "labels"  # kinds that the house knows by name; what no other kind claims is text


_folder: Folder[Kind] = Folder(__name__, "kind of data", "charlm.kinds._base:Kind")
names, load, summary = _folder.names, _folder.load, _folder.summary


def all_kinds() -> list[type[Kind]]:
    """Running text first, then the others in alphabetical order."""
    return [load(name) for name in sorted(names(), key=lambda name: (name != TEXT, name))]


def named(files: Sequence[str], encoding: str, *, with_targets: bool = False) -> type[Kind]:
    """The kind that the names of files suggest, before they are opened; `with_targets`: there are files of targets."""
    _, *others = all_kinds()
    for kind in others:
        if (with_targets and kind.has_source) or any(kind.named(file, encoding) for file in files):
            return kind
    return load(TEXT)


def open_any(
    paths: Sequence[str | Path], targets: Sequence[str | Path], encoding: str, readable: Collection[str]
) -> tuple[type[Kind], AnyCorpus]:
    """(kind, opened data) of files: the first of the `readable` kinds that claims them, or else running text, or else
    the only one that is readable.

    Raises what `Corpus.open` raises, and `CorpusError` for files of different kinds.
    """
    if targets:
        kind = named((), encoding, with_targets=True)
        return kind, kind.open(paths, targets, encoding)
    corpus = Corpus.open(paths, encoding)
    kind = claimant(corpus, readable)
    return kind, kind.of(corpus, None)


def claimant(corpus: Corpus, among: Collection[str] | None = None) -> type[Kind]:
    """The kind, `among` these or all, that claims a corpus by its name or first lines.

    If none does, running text, or else the first of these.
    """
    _, *others = all_kinds()
    claims = (kind for kind in others if (among is None or kind.name() in among) and kind.claims(corpus))
    return next(claims, load(TEXT if not among or TEXT in among else min(among)))


def refuse_another(kind: str, wanted: str) -> None:
    """Raise `SettingsError` if a run was trained on one kind of data and another one is `wanted`."""
    if kind != wanted:
        trained = load(kind)
        raise SettingsError(f"this run was trained on {trained.noun}: {trained.uses}")
