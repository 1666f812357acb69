"""Measuring a finished run for the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from charlm.comparing.rows import Trained
from charlm.errors import RunError, SettingsError
from charlm.kinds._base import AnyStore, Trial
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.runs.standing import curve_of
from charlm.score import Score
from charlm.writer import Writer


def open_run(run: Path) -> Writer:
    """Open a run on the device that it was trained on, or else on the best that this machine has."""
    device = folder.info(run).config["train"]["device"]
    try:
        return Writer.load(run, Opening(device=device))
    except SettingsError:
        return Writer.load(run)


def open_for(run: Path, store: AnyStore) -> Writer:
    """Open a run to score it on `store`. Raises `RunError` if their vocabularies differ."""
    writer = open_run(run)
    if writer.vocabularies.sha256 != store.vocabularies.sha256:
        raise RunError(f"{run} has another vocabulary than the text gives now; delete it, and start again")
    return writer


def measure_run(run: Path, trial: Trial, score: Score | None = None, part: Any = None) -> Trained:
    """The figures of a run, from its files and a trial; by default with the score of its own best validation.

    `part` of its data says how many characters a token has, where it is not tokens that are scored.
    Raises `RunError` if it has no score.
    """
    info = folder.info(run)
    config, training = info.config, info.training
    score = score or trial.score or info.best
    if score is None:
        raise RunError(f"{run} has no validation text to be compared on; train with a larger --val-frac")
    tokens = training["tokens"]
    seconds = max(training["seconds"], 1e-9)
    chars = score.chars / score.tokens if part is None else part.chars / len(part)
    return Trained(
        run=run,
        seed=config["train"]["seed"],
        score=score,
        params=config["params"],
        multiply_adds=config.get("multiply_adds"),
        train_speed=tokens / seconds * chars,
        peak_memory=training.get("peak_memory"),
        tokens_seen=tokens,
        seconds=training["seconds"],
        curve=curve_of(info, score.measure),
        trial=trial,
        start=(config.get("origin") or {}).get("run"),
        label_count=config["data"].get("label_count"),
    )
