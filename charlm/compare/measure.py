"""From a finished run to what the table says of it."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.compare.rows import Trained, curve_of
from charlm.errors import RunError, SettingsError
from charlm.progress import Progress
from charlm.runs import folder
from charlm.sampling.settings import SampleSettings, TranslateSettings
from charlm.text.pair_store import PairSplit, PairStore
from charlm.translation import translated_part
from charlm.writer import Writer

WRITE_SECONDS, WARM_UP = 1.0, 20  # for which writing is timed, after so many tokens


def opened(run: Path) -> Writer:
    """A run where it was trained, if that can be used here."""
    device = folder.info(run).config["train"]["device"]
    try:
        return Writer.load(run, device=device)
    except SettingsError:
        return Writer.load(run)


def reader(run: Path, store: PairStore) -> Writer:
    """`opened`, to read the ids of `store`. Raises `RunError` if they mean something else to it."""
    writer = opened(run)
    if writer.vocabularies.sha256 != store.vocabularies.sha256:
        raise RunError(f"{run} has another vocabulary than the text gives now; delete it, and start again")
    return writer


def translating(
    run: Path, writer: Writer, part: PairSplit, lengths: NDArray[np.int64] | None
) -> Generator[Progress, None, Trained]:
    """Have pairs scored and translated; `lengths` (pairs,) of the sources are counted alike for all runs."""
    arch = folder.info(run).config["arch"]
    found = yield from translated_part(writer, part, TranslateSettings(), arch, lengths)
    return replace(measured(run, found.chars_per_second, found.score), translated=found)


def measured(run: Path, speed: float, score: dict[str, Any] | None = None) -> Trained:
    """What a run's own files say, with `score` instead of that of its own validation text where it is given."""
    info = folder.info(run)
    config, training = info.config, info.training
    score = score or training["best"]
    if score is None:
        raise RunError(f"{run} has no validation text to be compared on; train with a larger --val-frac")
    seen = training["tokens"]
    seconds = max(training["seconds"], 1e-9)
    return Trained(
        run=run,
        seed=config["train"]["seed"],
        bits_per_byte=score["bits_per_byte"],
        nats_per_char=score["nats_per_char"],
        params=config["params"],
        context=score["context"],
        train_speed=seen / seconds * score["chars"] / score["tokens"],
        write_speed=speed,
        peak_memory=training.get("peak_memory"),
        tokens_seen=seen,
        seconds=training["seconds"],
        bytes=score["bytes"],
        chars=score["chars"],
        curve=curve_of(info),
    )


def write_speed(writer: Writer) -> float:
    """Characters per second in one stream."""
    pieces, chars = writer.pieces("", SampleSettings(), seed=0), 0
    for _ in range(WARM_UP):
        next(pieces)
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < WRITE_SECONDS:
        chars += len(next(pieces).texts[0])
    return chars / spent
