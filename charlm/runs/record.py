"""What a run's folder knows of its training, and the files that say so."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from charlm.errors import RunError
from charlm.model import LanguageModel
from charlm.runs import checkpoint, folder
from charlm.training.evaluate import Score, describe
from charlm.training.loop import Trainer

NOTES = ("stale", "validated", "losses", "pending")


@dataclass
class Record:
    """The best so far, how long ago that was, and the losses of the last validation."""

    path: Path
    arch: str
    best: Score | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best
    validated: int = -1  # the step of the last one
    losses: tuple[float, float] | None = None  # training and validation, then
    nats: Tensor | float = 0.0  # training loss per token, summed over the steps since then
    pending: bool = False  # a validation is due before the next step

    def take(self, score: Score, step: int) -> bool:
        """Note a validation; whether it is a new best."""
        better = self.best is None or score.bits_per_byte < self.best.bits_per_byte
        if not better and step != self.best_step:  # the same step again: a validation that was cut off
            self.stale += 1
            return False
        self.best, self.best_step, self.stale = score, step, 0
        return True

    def save(self, trainer: Trainer, kept: LanguageModel) -> None:
        """A checkpoint to resume from, and the newest weights to look at.

        Raises `RunError`, and touches nothing, if the loss is no number any more.
        """
        if not math.isfinite(float(self.nats)):
            raise RunError(
                f"the loss was no number any more before step {trainer.position.step}; what {self.path} held before is "
                "untouched; train again with a lower --lr or --clip"
            )
        notes = {name: getattr(self, name) for name in NOTES} | {"nats": float(self.nats)}
        checkpoint.save_training(self.path / "training.safetensors", trainer, notes)
        checkpoint.save_weights(self.path / "last.safetensors", kept, {"step": trainer.position.step})
        self.summarise(trainer)

    def save_best(self, trainer: Trainer, kept: LanguageModel) -> None:
        """The weights to write with. Their score stands in the same file, so the two cannot disagree."""
        score = self.best._asdict() if self.best else None
        checkpoint.save_weights(self.path / "model.safetensors", kept, {"step": self.best_step, "score": score})
        self.summarise(trainer)

    def restore(self, trainer: Trainer) -> None:
        """Stand where the last checkpoint stands. What was logged after it will happen again, so it is cut off."""
        notes = checkpoint.load_training(self.path / "training.safetensors", trainer)
        for name in (*NOTES, "nats"):
            setattr(self, name, notes[name])
        if (self.path / "model.safetensors").exists():
            _, kept = checkpoint.load_tensors(self.path / "model.safetensors")
            self.best, self.best_step = Score(**kept["score"]) if kept["score"] else None, kept["step"]
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            end = trainer.position.step + (not self.pending)
            past = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] < end]
            with folder.replacing(metrics) as beside:
                beside.write_text("".join(past), encoding="utf-8")

    def summarise(self, trainer: Trainer, *, finished: bool = False) -> None:
        """training.json, for people and for `charlm runs`."""
        summary: dict[str, Any] = position(trainer) | {
            "progress": round(trainer.progress(), 4),
            "finished": finished,
            "best": self.best._asdict() if self.best else None,
            "best_step": self.best_step,
        }
        folder.write_json(self.path / "training.json", summary)

    def log(self, trainer: Trainer, train_nats: float, score: Score | None) -> None:
        """A line of metrics.jsonl."""
        line = position(trainer) | {"train_nats": train_nats}
        if score:
            line |= describe(trainer.model, score, self.arch)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def log_sample(self, step: int, text: str) -> None:
        with (self.path / "samples.txt").open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"--- step {step}\n{text}\n")


def position(trainer: Trainer) -> dict[str, Any]:
    here = trainer.position
    return {"step": here.step, "tokens": here.tokens, "seconds": round(here.clock(), 2)}
