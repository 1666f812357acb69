"""What an objective is: how rows of data are shown to a network, and what its answers cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.config import DataSpec, Lengths, Settings, TrainSettings
from charlm.model import PAD, Network, State
from charlm.progress import Progress
from charlm.score import BITS, Measure, Score

Arrays = tuple[Tensor, ...]
"""Part of the data as ids, padded on the right with PAD. Of a text: windows (B, T + 1) of consecutive tokens. Of pairs:
sources (B, S) and targets (B, T + 1), each of which begins with a newline."""


class Batch(NamedTuple):
    tokens: Tensor  # (B, T) what the network is fed
    targets: Tensor  # (B, T) what it should say there; PAD is not scored
    source: Tensor | None = None  # (B, S) what an encoder reads first, padded on the right with PAD
    segments: Tensor | None = None  # (B, T) which of two texts in a row a token is of: 0 or 1; None: there is one
    answers: Tensor | None = None  # (B,) what is right of a row as a whole; PAD is not scored
    places: Tensor | None = None  # (B, M) which tokens are guessed, in their order, PAD for none; targets are (B, M)


class Loss(NamedTuple):
    nats: Tensor  # () summed over the scored targets
    state: State  # what the next batch goes on from
    penalty: Tensor | None = None  # () nats to be minimised too, which are no part of the score: summed like `nats`

    @property
    def minimised(self) -> Tensor:
        return self.nats if self.penalty is None else self.nats + self.penalty


class Objective(Settings, ABC):
    """What a network is trained for. Its fields are options on the command line."""

    kind: ClassVar[str] = "text"  # of data, of which it is shown rows
    needs: ClassVar[type[Network]]  # what a network must be able to do
    symbols: ClassVar[int] = 0  # ids beyond the vocabulary that it shows: V, V + 1 …; no tokenizer emits them
    guessed: ClassVar[int] = 0  # of these, the first, that a network also guesses
    command: ClassVar[str] = ""  # that its runs are for, if they cannot go on with a text
    figures: ClassVar[tuple[str, ...]] = ()  # of the quality of what its runs write, where there is more than the score

    @classmethod
    def name(cls) -> str:
        """As on the command line: that of its file."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    @classmethod
    def suits(cls, network: type[Network]) -> bool:
        """Whether a network can be trained for it."""
        return issubclass(network, cls.needs)

    @property
    def measure(self) -> Measure:
        """Of its scores: only those in one are ranked together."""
        return BITS

    @property
    def answers(self) -> int:
        """Of so many answers it asks for one of each row as a whole; 0: it asks nothing."""
        return 0

    @property
    def least_rows(self) -> int:
        """Rows that a batch must have, where they are shown together."""
        return 1

    def room(self, lengths: Lengths) -> Lengths:
        """The lengths that a network needs for it, of those that the data give; rows in training stay as they are."""
        return lengths

    def fitted(self, spec: DataSpec) -> DataSpec:
        """What a network for it must know of the data: with the symbols, answers and lengths that it adds.

        Raises `SettingsError` for data that do not suit it (`check`).
        """
        self.check(spec)
        spec = spec._replace(symbols=self.symbols, guessed=self.guessed, answers=self.answers)
        return spec._replace(lengths=self.room(spec.lengths))

    @property
    def starts_from_run(self) -> bool:
        """Whether it is of use only with the weights of a run to start from."""
        return False

    def check_training(self, settings: TrainSettings) -> None:
        """Raise `SettingsError` for settings of the training that do not go with it."""

    @property
    def by_token(self) -> bool:
        """Whether a network is fed one token at a time in training, and not whole sequences."""
        return False

    def check(self, spec: DataSpec) -> None:
        """Raise `SettingsError` if rows of such lengths are of no use."""

    def equip(self, body: Network) -> Network:
        """The network that is trained, around the architecture's own (`body`), which it is by default."""
        return body

    @abstractmethod
    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:
        """What is shown of some rows; whatever is random is drawn from `rng`."""

    @abstractmethod
    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        """What a network (`needs`, perhaps compiled) makes of a batch, with the state that the batch before left."""

    def start(self, network: Any, rows: int) -> State:  # noqa: ARG002
        """The state before the first batch, of the shapes that all later ones have. Default: nothing is remembered."""
        return ()

    @abstractmethod
    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """How well a network does on a held-out part of the data: the same at each call, so nothing in it is random."""


def windows(ids: Tensor, length: int) -> Tensor:
    """(R, T) a text (1, N), one row after the other, the last filled up with PAD."""
    return F.pad(ids, (0, -ids.size(1) % length), value=PAD).view(-1, length)


def guessed_score(
    nats: float, targets: Tensor, spec: DataSpec, context: int, measure: Measure, **figures: float
) -> Score:
    """The score of guesses at some tokens of a text, the `targets` but for PAD, that cost so many nats together."""
    guessed = [spec.tokens[id] for id in targets[targets != PAD].tolist()]
    chars = sum(len(token) - sum(0x80 <= byte < 0xC0 for byte in token) for token in guessed)
    mean = nats / max(len(guessed), 1)
    return Score(mean, mean, len(guessed), chars, sum(map(len, guessed)), context, measure, figures)


def summed_nats(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the scored targets: logits (B, T, V), targets (B, T) -> ().

    `smoothing` is the share of a target's weight that is spread over the vocabulary (Szegedy et al. 2016,
    arXiv:1512.00567, section 7).
    """
    flat = logits.flatten(0, 1).float()
    return F.cross_entropy(flat, targets.flatten(), ignore_index=PAD, reduction="sum", label_smoothing=smoothing)
