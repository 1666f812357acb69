"""What each part of a network is worth: how much worse it scores with the part switched off.

Of heads Michel, Levy & Neubig 2019, arXiv:1905.10650, section 3; of single units of recurrent networks Lakretz et al.
2019, arXiv:1903.07435.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

from charlm.kinds._base import AnyCorpus
from charlm.progress import Progress, result
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.score import Score
from charlm.scoring import part_to_score
from charlm.writer import Writer

WORK = 500_000  # bytes that are scored in all where no size is asked for, about: a text once for each part
SHORTEST, LONGEST = 2_000, 50_000  # bytes of that text, whatever the parts


class Loss(NamedTuple):
    """What the network loses with a part switched off."""

    place: str  # as of `model.Part`
    name: str
    lost: float  # in the measure of the score; below 0 if it does better without the part


class Ablation(NamedTuple):
    score: Score  # of the whole network
    losses: list[Loss]  # in the order of the network's parts

    @property
    def ranked(self) -> list[Loss]:
        """The most missed first."""
        return sorted(self.losses, key=lambda loss: -loss.lost)

    def to_json(self) -> dict[str, Any]:
        return {**self.score.to_json(), "parts": [loss._asdict() for loss in self.ranked]}


def ablate(
    run: str | Path, *, corpus: AnyCorpus | None = None, max_bytes: int | None = None, opening: Opening | None = None
) -> Generator[Progress, None, Ablation]:
    """Score the run whole and with each of its parts switched off, on the beginning of its validation part.

    `corpus` are other data of the kind that it was trained on. `max_bytes` are scored with each part off; by default
    about `WORK` bytes are shared by the parts, but each gets `SHORTEST` at least and `LONGEST` at most.

    Raises `SettingsError` for a network that has no parts to switch off, and otherwise as `charlm.scoring.score_run`.
    """
    path = folder.find(run)
    writer = Writer.load(path, opening)
    parts = writer.model.parts()
    data, _ = yield from part_to_score(folder.info(path), writer.vocabularies, corpus=corpus)
    size = max_bytes or min(max(WORK // len(parts), SHORTEST), LONGEST)
    data = data.beginning(size, writer.vocabularies)
    yield Progress("switching off", 0, len(parts))
    score: Score = result(writer.objective.score(writer.model, data))
    sign = -1 if score.measure.more else 1
    losses = []
    for part in parts:
        with part.off():
            without = result(writer.objective.score(writer.model, data))
        losses.append(Loss(part.place, part.name, sign * (without.value - score.value)))
        yield Progress("switching off", len(losses), len(parts))
    return Ablation(score, losses)
