"""What is known of a training beside its weights, and the files of the run that hold it."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm import __version__
from charlm.device import peak_memory
from charlm.energy import Energy, Meter
from charlm.errors import RunError
from charlm.evaluate import describe
from charlm.files import replacing
from charlm.kinds._base import AnyCorpus, AnyStore
from charlm.launch import launched
from charlm.model import Network, parameter_count
from charlm.plan import Plan
from charlm.runs import checkpoint, folder
from charlm.score import Score
from charlm.text.vocabulary import Vocabularies
from charlm.training.loop import Step, Trainer

NOTES = ("stale", "validated", "losses", "pending")
NO_CORPUS: dict[str, Any] = {"name": "-", "paths": [], "targets": [], "sha256": ""}  # of a run with weights of others
UNTRAINED: dict[str, Any] = {  # what its training.json says
    "step": 0,
    "tokens": 0,
    "seconds": 0.0,
    "progress": 1.0,
    "finished": True,
    "best": None,
    "best_step": 0,
    "peak_memory": None,
    "energy": None,
}


@dataclass
class Record:
    """The best score so far, the last validation, and the training loss since then.

    Methods that write raise `RunError` if the disk cannot be written, and leave the files as they were. The `network`
    that they save is the one to use later: the averaged one if there is one, or else the trained one.
    """

    path: Path
    arch: str
    meter: Meter
    origin: dict[str, Any] | None = None  # where the first weights came from; None: they were drawn
    best: Score | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best score
    validated: int = -1  # the step of the last validation
    losses: tuple[float, float] | None = None  # of training and of validation, at the last validation
    nats: Tensor | float = 0.0  # training loss, summed over the tokens since the last validation
    tokens: Tensor | int = 0  # their number
    pending: bool = False  # a validation is due before the next step
    saved: int = -1  # the step of the checkpoint on disk
    unwritten: tuple[Score | None, int] | None = None  # score and step of best weights that could not be written
    energy: Energy = field(init=False)  # of all that was done up to the last save, validations and samples too

    def begin(
        self, plan: Plan, store: AnyStore, corpus: AnyCorpus, trainer: Trainer, network: Network, work: int
    ) -> None:
        """Write all that opening and resuming the run needs; config.json last, as it makes the folder a run.

        `work` is the network's multiply-adds per token.
        """
        folder.write_json(self.path / "tokenizer.json", store.vocabularies.to_json())
        self.save(trainer, network)  # so that there always is a checkpoint
        text = {
            "name": corpus.name,
            "paths": resolved(corpus.paths),
            "targets": resolved(corpus.targets),
            "sha256": store.corpus_sha256,
        }
        model, rows, origin = trainer.model, trainer.batches.batch_size, self.origin
        config = describe_run(plan, model, store.vocabularies, rows=rows, work=work, corpus=text, origin=origin)
        folder.write_json(self.path / "config.json", config)

    def add_loss(self, step: Step) -> None:
        """Add a step's training loss, unless it is not finite."""
        self.nats = self.nats + torch.nan_to_num(step.nats, nan=0.0, posinf=0.0) * step.tokens
        self.tokens = self.tokens + step.nats.isfinite() * step.tokens

    def add_score(self, score: Score, step: int, trainer: Trainer, network: Network) -> None:
        """Note a validation, and save the weights if they are the best."""
        better = self.best is None or score.measure.better(score.value, self.best.value)
        again = self.best is not None and (step, score.value) == (self.best_step, self.best.value)  # after a resume
        if math.isfinite(score.value) and (better or again):
            self.save_best(score, step, trainer, network)
            self.stale = 0
        elif step > self.best_step:  # false only after going back to an earlier checkpoint
            self.stale += 1

    def save(self, trainer: Trainer, network: Network) -> None:
        """Save a checkpoint to resume from, and the newest weights to use."""
        notes = {name: getattr(self, name) for name in NOTES} | {"nats": float(self.nats), "tokens": int(self.tokens)}
        checkpoint.save_training(self.path / "training.safetensors", trainer, notes)
        checkpoint.save_weights(self.path / "last.safetensors", network, {"step": trainer.position.step})
        self.summarise(trainer)
        self.saved = trainer.position.step

    def save_best(self, score: Score | None, step: int, trainer: Trainer, network: Network) -> None:
        """Save the best weights. Their score is in the same file, so the two always belong together."""
        self.unwritten = (score, step)
        metadata = {"step": step, "score": score.to_json() if score else None}
        checkpoint.save_weights(self.path / "model.safetensors", network, metadata)
        self.best, self.best_step, self.unwritten = score, step, None
        self.summarise(trainer)

    def restore(self, trainer: Trainer) -> None:
        """Return to the last checkpoint. What was logged after it is deleted, as it will happen again.

        Raises `RunError` if it is damaged, and says whether the checkpoint before it is whole.
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
                _, best = checkpoint.read_weights(self.path / "model.safetensors", trainer.model)
                self.best, self.best_step = Score.from_json(best["score"]) if best["score"] else None, int(best["step"])
            except (RunError, KeyError, TypeError, ValueError) as error:
                raise RunError(f"{error}; delete it to go on without: the next best is kept anew") from None
        metrics = self.path / "metrics.jsonl"
        if os.path.lexists(metrics):
            end = trainer.position.step + (not self.pending)
            past = "".join(line for entry, line in folder.metrics(self.path) if entry["step"] < end)
            with replacing(metrics) as temporary:
                temporary.write_text(past, encoding="utf-8")

    def go_back(self, trainer: Trainer) -> None:
        """Replace a damaged checkpoint by the one before it. Raises `RunError` if that is damaged too."""
        previous = self.path / "previous.safetensors"
        checkpoint.load_training(previous, trainer)
        with replacing(self.path / "training.safetensors") as temporary:
            shutil.copyfile(previous, temporary)

    def summarise(self, trainer: Trainer, *, finished: bool = False) -> None:
        """Write training.json, for people and for `charlm runs`."""
        self.energy = self.meter.read()
        summary: dict[str, Any] = position(trainer) | {
            "progress": round(trainer.progress(), 4),
            "finished": finished,
            "best": self.best.to_json() if self.best else None,
            "best_step": self.best_step,
            "peak_memory": peak_memory(trainer.device),
            "energy": self.energy._asdict(),
        }
        folder.write_json(self.path / "training.json", summary)

    def finish(self, trainer: Trainer, network: Network) -> None:
        """Save the end of the training, and what could not be written before."""
        step = trainer.position.step
        if self.saved != step:
            self.save(trainer, network)
        if self.unwritten and self.unwritten[1] == step:
            self.save_best(*self.unwritten, trainer, network)
        self.summarise(trainer, finished=True)

    def log(self, trainer: Trainer, train_nats: float, score: Score | None) -> None:
        """Append a line to metrics.jsonl."""
        scored = describe(trainer.model, score, self.arch) if score else {}
        line = (
            scored | position(trainer) | {"train_nats": train_nats}
        )  # `tokens`: those trained on, and not those scored
        folder.append(self.path / "metrics.jsonl", json.dumps(line) + "\n")

    def log_sample(self, step: int, text: str) -> None:
        """Append a text to samples.txt."""
        folder.append(self.path / "samples.txt", f"--- step {step}\n{text}\n")


def describe_run(
    plan: Plan,
    network: Network,
    vocabularies: Vocabularies,
    *,
    rows: int,
    work: int,
    corpus: dict[str, Any] = NO_CORPUS,
    origin: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What config.json says. The network's lengths, and `rows`, are smaller than the plan's if the text is short.

    `work` is its multiply-adds per token.
    """
    return {
        "format": folder.FORMAT,
        "charlm": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "launch": launched().id,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **plan.to_dict(),
        "lengths": network.spec.lengths._asdict(),
        "rows": rows,
        "params": parameter_count(network),
        "multiply_adds": work,
        "tokenizer_sha256": vocabularies.sha256,
        "corpus": corpus,
        "origin": origin,
    }


def resolved(paths: Iterable[Path]) -> list[str]:
    """Absolute paths; - stays as it is."""
    return [str(path if str(path) == "-" else path.resolve()) for path in paths]


def position(trainer: Trainer) -> dict[str, Any]:
    now = trainer.position
    return {"step": now.step, "tokens": now.tokens, "seconds": round(now.clock.seconds, 3)}
