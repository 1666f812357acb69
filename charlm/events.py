"""What a training yields, everything that happened, and what can be asked of it meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from charlm.baselines import Baselines
from charlm.kinds._base import AnyPart
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.score import Score
from charlm.training.loop import Step


@dataclass
class Wishes:
    """What someone asks of a running training, from a signal handler or another thread; looked at after each step."""

    stop: bool = False  # after saving
    save: bool = False


class Note(NamedTuple):
    """Something that a person should know, in words."""

    text: str


class Started(NamedTuple):
    path: Path
    plan: Plan
    params: int
    splits: dict[str, AnyPart]
    vocab_size: int
    where: str  # device, precision and why


class Validated(NamedTuple):
    step: int
    seconds: float  # of training so far
    train_nats: float  # mean per token since the last validation, with dropout at work
    score: Score
    best: bool


class Wrote(NamedTuple):
    step: int
    text: str


class Stopped(NamedTuple):
    """Stopped on request; everything is saved."""

    path: Path
    step: int  # of the checkpoint that stands there now


class Ended(NamedTuple):
    path: Path
    best: Score | None
    best_step: int
    steps: int
    seconds: float  # of training
    tokens_per_second: float  # in these
    baselines: Callable[[], Baselines | None]  # what simple methods reach, which takes seconds to see


Event = Progress | Note | Started | Step | Validated | Wrote | Stopped | Ended
