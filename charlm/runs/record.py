"""What a run's folder knows of its training, and the files that say so."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm import __version__
from charlm.device import peak_memory
from charlm.errors import RunError
from charlm.evaluate import describe
from charlm.files import replacing
from charlm.kinds._base import AnyCorpus, AnyStore
from charlm.model import Network, parameter_count
from charlm.plan import Plan
from charlm.runs import checkpoint, folder
from charlm.score import Score
from charlm.training.loop import Step, Trainer

NOTES = ("stale", "validated", "losses", "pending")


@dataclass
class Record:
    """The best so far, how long ago that was, and the losses of the last validation.

    Whatever cannot be written raises `RunError` and leaves the files, and the record, as they were.
    """

    path: Path
    arch: str
    best: Score | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best
    validated: int = -1  # the step of the last one
    losses: tuple[float, float] | None = None  # training and validation, then
    nats: Tensor | float = 0.0  # training loss, summed over the tokens since then
    tokens: Tensor | int = 0  # so many
    pending: bool = False  # a validation is due before the next step
    saved: int = -1  # the step of the checkpoint on disk
    owed: tuple[Score | None, int] | None = None  # score and step of best weights that could not be written

    def begin(self, plan: Plan, store: AnyStore, corpus: AnyCorpus, trainer: Trainer, kept: Network) -> None:
        """All that is needed to open, explain, repeat and resume the run; config.json, which makes it one, last."""
        folder.write_json(self.path / "tokenizer.json", store.vocabularies.to_json())
        self.save(trainer, kept)  # so that there is always a checkpoint to go back to
        config = {
            "format": folder.FORMAT,
            "charlm": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **plan.to_dict(),
            "lengths": trainer.model.spec.lengths._asdict(),
            "rows": trainer.batches.batch_size,  # both are smaller than asked for where the text is short
            "params": parameter_count(trainer.model),
            "tokenizer_sha256": store.vocabularies.sha256,
            "corpus": {
                "name": corpus.name,
                "paths": resolved(corpus.paths),
                "targets": resolved(corpus.targets),
                "sha256": store.corpus_sha256,
            },
        }
        folder.write_json(self.path / "config.json", config)

    def add(self, step: Step) -> None:
        """Count a step's loss; one that is no number is not counted."""
        self.nats = self.nats + torch.nan_to_num(step.nats, nan=0.0, posinf=0.0) * step.tokens
        self.tokens = self.tokens + step.nats.isfinite() * step.tokens

    def take(self, score: Score, step: int, trainer: Trainer, kept: Network) -> None:
        """Note a validation, and keep the weights if they are the best."""
        better = self.best is None or score.measure.better(score.value, self.best.value)
        again = self.best is not None and (step, score.value) == (self.best_step, self.best.value)  # it was cut off
        if math.isfinite(score.value) and (better or again):
            self.save_best(score, step, trainer, kept)
            self.stale = 0
        elif step > self.best_step:  # before it only where an earlier checkpoint was gone back to
            self.stale += 1

    def save(self, trainer: Trainer, kept: Network) -> None:
        """A checkpoint to resume from, and the newest weights to look at."""
        notes = {name: getattr(self, name) for name in NOTES} | {"nats": float(self.nats), "tokens": int(self.tokens)}
        checkpoint.save_training(self.path / "training.safetensors", trainer, notes)
        checkpoint.save_weights(self.path / "last.safetensors", kept, {"step": trainer.position.step})
        self.summarise(trainer)
        self.saved = trainer.position.step

    def save_best(self, score: Score | None, step: int, trainer: Trainer, kept: Network) -> None:
        """The weights to write with. Their score stands in the same file, so the two cannot disagree."""
        self.owed = (score, step)
        said = {"step": step, "score": score.to_json() if score else None}
        checkpoint.save_weights(self.path / "model.safetensors", kept, said)
        self.best, self.best_step, self.owed = score, step, None
        self.summarise(trainer)

    def restore(self, trainer: Trainer) -> None:
        """Stand where the last checkpoint stands. What was logged after it will happen again, so it is cut off.

        Raises `RunError` if it is damaged, and names the one before it where that is whole.
        """
        try:
            notes = checkpoint.load_training(self.path / "training.safetensors", trainer)
            for name in (*NOTES, "nats", "tokens"):
                setattr(self, name, notes[name])
        except (RunError, KeyError) as error:
            previous = self.path / "previous.safetensors"
            try:
                checkpoint.load_training(previous, trainer)
            except RunError:
                raise RunError(f"{error}; nothing is left to go on from") from None
            step = trainer.position.step
            raise RunError(
                f"{error}; the checkpoint before it, of step {step}, is whole: add --previous to go on from there"
            ) from None
        self.saved = trainer.position.step
        if (self.path / "model.safetensors").exists():
            try:
                _, kept = checkpoint.read_weights(self.path / "model.safetensors", trainer.model)
                self.best, self.best_step = Score.from_json(kept["score"]) if kept["score"] else None, int(kept["step"])
            except (RunError, KeyError, TypeError, ValueError) as error:
                raise RunError(f"{error}; delete it to go on without: the next best is kept anew") from None
        metrics = self.path / "metrics.jsonl"
        if os.path.lexists(metrics):
            end = trainer.position.step + (not self.pending)
            past = "".join(line for said, line in folder.metrics(self.path) if said["step"] < end)
            with replacing(metrics) as beside:
                beside.write_text(past, encoding="utf-8")

    def go_back(self, trainer: Trainer) -> None:
        """Take the last but one checkpoint for the last, which is damaged. Raises `RunError` if both are."""
        previous = self.path / "previous.safetensors"
        checkpoint.load_training(previous, trainer)
        with replacing(self.path / "training.safetensors") as beside:
            shutil.copyfile(previous, beside)

    def summarise(self, trainer: Trainer, *, finished: bool = False) -> None:
        """training.json, for people and for `charlm runs`."""
        summary: dict[str, Any] = position(trainer) | {
            "progress": round(trainer.progress(), 4),
            "finished": finished,
            "best": self.best.to_json() if self.best else None,
            "best_step": self.best_step,
            "peak_memory": peak_memory(trainer.device),
        }
        folder.write_json(self.path / "training.json", summary)

    def finish(self, trainer: Trainer, kept: Network) -> None:
        """The end: what could not be saved so far is tried once more."""
        step = trainer.position.step
        if self.saved != step:
            self.save(trainer, kept)
        if self.owed and self.owed[1] == step:
            self.save_best(*self.owed, trainer, kept)
        self.summarise(trainer, finished=True)

    def log(self, trainer: Trainer, train_nats: float, score: Score | None) -> None:
        """A line of metrics.jsonl."""
        scored = describe(trainer.model, score, self.arch) if score else {}
        line = scored | position(trainer) | {"train_nats": train_nats}  # tokens are those trained on
        folder.append(self.path / "metrics.jsonl", json.dumps(line) + "\n")

    def log_sample(self, step: int, text: str) -> None:
        folder.append(self.path / "samples.txt", f"--- step {step}\n{text}\n")


def resolved(paths: Sequence[Path]) -> list[str]:
    return [str(path if str(path) == "-" else path.resolve()) for path in paths]


def position(trainer: Trainer) -> dict[str, Any]:
    here = trainer.position
    return {"step": here.step, "tokens": here.tokens, "seconds": round(here.clock.seconds, 3)}
