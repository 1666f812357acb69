"""From a finished run to what the table says of it."""

from __future__ import annotations

from pathlib import Path

from charlm.compare.rows import Trained, curve_of
from charlm.errors import RunError, SettingsError
from charlm.kinds._base import AnyStore, Trial
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.score import Score
from charlm.writer import Writer


def opened(run: Path) -> Writer:
    """A run where it was trained, if that can be used here."""
    device = folder.info(run).config["train"]["device"]
    try:
        return Writer.load(run, Opening(device=device))
    except SettingsError:
        return Writer.load(run)


def reader(run: Path, store: AnyStore) -> Writer:
    """`opened`, to read the ids of `store`. Raises `RunError` if they mean something else to it."""
    writer = opened(run)
    if writer.vocabularies.sha256 != store.vocabularies.sha256:
        raise RunError(f"{run} has another vocabulary than the text gives now; delete it, and start again")
    return writer


def measured(run: Path, trial: Trial, score: Score | None = None) -> Trained:
    """What a run's own files and a trial say, with `score` instead of that of its own validation where it is given."""
    info = folder.info(run)
    config, training = info.config, info.training
    score = score or trial.score or info.best
    if score is None:
        raise RunError(f"{run} has no validation text to be compared on; train with a larger --val-frac")
    seen = training["tokens"]
    seconds = max(training["seconds"], 1e-9)
    return Trained(
        run=run,
        seed=config["train"]["seed"],
        score=score,
        params=config["params"],
        train_speed=seen / seconds * score.chars / score.tokens,
        peak_memory=training.get("peak_memory"),
        tokens_seen=seen,
        seconds=training["seconds"],
        curve=curve_of(info, score.measure),
        trial=trial,
    )
