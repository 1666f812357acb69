"""From names and settings to a comparison: of runs that are there, or of trainings to come."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from charlm import kinds
from charlm.asking import other_data, refuse_unused, text_to_train_on
from charlm.comparing.contest import Contest, Match
from charlm.comparing.entrants import NONE, entrants, labels, listed
from charlm.comparing.existing import compare_runs
from charlm.comparing.run import Comparison, Event, train_and_compare
from charlm.config import DataSettings
from charlm.errors import RunError, SettingsError
from charlm.kinds._base import AnyCorpus
from charlm.plan import kinds_for
from charlm.runs import folder

Files = list[str] | None


def compared(
    what: list[str],
    seeds: int,
    jobs: int,
    given: dict[str, Any],
    *,
    text: Files = None,
    pairs: Files = None,
    out: Path | None = None,
    target: float | None = None,
    **trains: Any,
) -> Generator[Event, None, Comparison]:
    """The comparison of the runs, or of trainings on the text, that `what` names. `trains` are the arguments of
    `make_contest` with names.

    Raises `SettingsError` for options that are not for that, and for entrants or runs that do not compare.
    """
    if any(map(is_run, what)):
        encoding = given.pop("encoding", None)
        if any(value is not None for value in trains.values()) or given or seeds > 1 or jobs > 1 or out:
            raise SettingsError("these are runs: they are compared as they are, without --arch and its training")
        return compare_existing(what, text, pairs, target, encoding)
    refuse_untrainable(what, text, pairs)
    contest, corpus = make_contest(what, seeds, given, **trains)
    return train_and_compare(contest, corpus, out=out, jobs=jobs, target=target)


def refuse_untrainable(what: Files, text: Files, pairs: Files) -> None:
    """Raise `SettingsError` if there is nothing to train on, or other data to be scored on."""
    if text or pairs:
        raise SettingsError("--text and --pairs are for runs; what is trained here is scored on its own held-out part")
    if not what:
        raise SettingsError("what is to be compared? charlm compare FILE trains on it; charlm compare RUN RUN")


def compare_existing(
    names: list[str], text: list[str] | None, pairs: list[str] | None, target: float | None, encoding: str | None
) -> Generator[Event, None, Comparison]:
    """Compare existing runs, on their own held-out part or on other data."""
    if text and pairs:
        raise SettingsError("--text and --pairs are different texts; give one of them")
    refuse_unused(encoding, read=bool(text or pairs), advice="--text FILE or --pairs FILE")
    first = folder.info(folder.find(names[0]))
    others = other_data(kinds.load(first.kind), {"text": text, "pairs": pairs}, encoding)
    return compare_runs(names, corpus=others, target=target)


def make_contest(
    files: list[str],
    seeds: int,
    given: dict[str, Any],
    *,
    arch: str | None,
    starts: str | None,
    counts: str | None,
    match: Match | None,
) -> tuple[Contest, AnyCorpus]:
    """The contest and the data in `files`: of a kind that all the architectures read, or that the files' names say."""
    names, runs = labels(arch), listed(starts)
    readable = {kind.name() for kind in kinds.all_kinds()}
    for entrant in entrants(names, runs) if names or runs else ():
        readable &= {*kinds_for(entrant.arch)}
    readable.add(kinds.named(files, given.get("encoding", DataSettings().encoding)).name())
    kind, corpus = text_to_train_on(files, None, None, given, readable)
    equal: Match = match or ("tokens" if given.keys() & {"epochs", "steps"} else "time")
    names = names or ([] if {*runs} - {NONE} else labels(kind.entrants))
    wanted: Any = {"kind": kind.name(), "starts": runs, "counts": listed(counts)}
    return Contest.of(names, equal, seeds, given, **wanted), corpus


def is_run(name: str) -> bool:
    with suppress(RunError):
        folder.find(name)
        return True
    return False
