"""The events that a training yields, and the flags with which it is controlled while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from charlm.baselines import Baselines
from charlm.energy import Energy
from charlm.kinds._base import AnyPart
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.score import Score
from charlm.training.loop import Step


@dataclass
class Control:
    """Flags that a signal handler or another thread sets on a running training, which reads them after every step."""

    stop: bool = False  # save a checkpoint, and stop
    save: bool = False  # save a checkpoint, and go on


class Note(NamedTuple):
    """A message for the user."""

    text: str


class Started(NamedTuple):
    path: Path
    plan: Plan
    params: int
    multiply_adds: int  # per token, forward
    splits: dict[str, AnyPart]  # train, validation and test
    vocab_size: int
    where: str  # device, precision and why


class Validated(NamedTuple):
    step: int
    seconds: float  # of training so far
    train_nats: float  # mean training loss per token since the last validation, with dropout
    score: Score
    best: bool  # whether it is the best so far


class Wrote(NamedTuple):
    """A sample of what the model writes so far."""

    step: int
    text: str


class Stopped(NamedTuple):
    """Stopped on request, after saving."""

    path: Path
    step: int  # of the last checkpoint


class Ended(NamedTuple):
    """The budget is spent, or `--patience` ended the training."""

    path: Path
    best: Score | None  # None without a validation part
    best_step: int
    steps: int
    seconds: float  # of training
    tokens_per_second: float  # during training
    energy: Energy  # of the whole run, validations and samples too
    baselines: Callable[[], Baselines | None]  # computed when called, which takes seconds


Event = Progress | Note | Started | Step | Validated | Wrote | Stopped | Ended
