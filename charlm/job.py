"""The whole job, from a text to a run folder, as a generator of what happened. The caller draws, logs and stops."""

from __future__ import annotations

import copy
import json
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charlm import __version__
from charlm.baselines import Baselines, baselines
from charlm.config import DataSpec, Interval
from charlm.device import choose_device, settle
from charlm.model import parameter_count
from charlm.plan import Plan
from charlm.runs import checkpoint, folder
from charlm.sampling.settings import SampleSettings
from charlm.scoring import same_corpus, score_split
from charlm.text.corpus import Corpus
from charlm.text.progress import Progress
from charlm.text.store import Split, Store, prepare
from charlm.text.windows import Windows
from charlm.training.evaluate import Score, describe
from charlm.training.loop import Step, Trainer
from charlm.training.optim import build_optimizers
from charlm.writer import Writer

SAMPLE_TOKENS, SAMPLE_SECONDS = 300, 0.5  # what is written after a validation, whichever ends first
BASELINE_CHARS = 10_000_000  # of the training text, its end: more would be slow and tells little more


class Note(NamedTuple):
    """Something that a person should know, in words."""

    text: str


class Started(NamedTuple):
    path: Path
    plan: Plan
    params: int
    splits: dict[str, Split]
    vocab_size: int
    where: str  # device, precision and why


class Validated(NamedTuple):
    step: int
    seconds: float
    train_nats: float  # mean per token since the last validation, with dropout at work
    score: Score
    best: bool


class Wrote(NamedTuple):
    step: int
    text: str


class Stopped(NamedTuple):
    """Stopped on request; everything is saved."""

    path: Path
    step: int


class Ended(NamedTuple):
    path: Path
    best: Score | None
    best_step: int
    steps: int
    seconds: float
    tokens_per_second: float
    baselines: Baselines | None


Event = Progress | Note | Started | Step | Validated | Wrote | Stopped | Ended


def train(
    plan: Plan,
    corpus: Corpus,
    *,
    out: Path | None = None,
    cache_dir: Path | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Train from the beginning into a new folder, `out` or one named after the corpus and the architecture."""
    store = yield from prepare(corpus, plan.data, cache_dir)
    job = Job(plan, store, stop or threading.Event())
    job.path = folder.create(out, f"{corpus.name}-{plan.arch}")
    folder.write_json(job.path / "config.json", job.describe(corpus))
    folder.write_json(job.path / "tokenizer.json", store.tokenizer.to_json())
    yield from job.run()


def resume(
    path: Path, *, cache_dir: Path | None = None, changes: dict[str, Any], stop: threading.Event | None = None
) -> Iterator[Event]:
    """Go on with a run where its last checkpoint stands; `changes` may name a larger budget and nothing else.

    Raises `RunError` if the folder is not whole or its corpus is gone or changed.
    """
    config = folder.info(path).config
    old = Plan.from_dict(config)
    plan = Plan.of({"arch": old.arch}, old.model.to_dict(), kept(old.train.to_dict()), old.data.to_dict(), changes)
    store = yield from prepare(same_corpus(path, config), plan.data, cache_dir)
    job = Job(plan, store, stop or threading.Event())
    job.path = path
    job.restore()
    yield from job.run()


def kept(train: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in train.items() if value is not None}


class Timer:
    """Says when an interval is over. An automatic one lets what it times take 5 % of the time."""

    def __init__(self, interval: Interval, step: int) -> None:
        self.interval = interval
        self.began, self.step, self.wait = time.monotonic(), step, 5.0

    def due(self, step: int) -> bool:
        if self.interval.steps:
            return step % self.interval.steps == 0
        return time.monotonic() - self.began >= (self.interval.seconds or self.wait)

    def reset(self, step: int, cost: float) -> None:
        self.began, self.step, self.wait = time.monotonic(), step, max(1.0, 19 * cost)


class Job:
    """One training with everything around it; `run` is the generator."""

    def __init__(self, plan: Plan, store: Store, stop: threading.Event) -> None:
        device = choose_device(plan.train.device)
        train, self.where = settle(plan.train, device)
        self.plan, self.store, self.stop = replace(plan, train=train), store, stop
        self.windows = Windows(
            store.train.ids,
            batch_size=train.batch_size,
            seq_len=train.seq_len,
            order=train.order,
            seed=train.seed,
        )
        spec = DataSpec(store.tokenizer.vocab_size, self.windows.seq_len)
        torch.manual_seed(train.seed)
        model = plan.build(spec).to(device)
        self.average = copy.deepcopy(model).requires_grad_(False) if train.ema else None
        self.trainer = Trainer(model, self.windows, build_optimizers(model, train), train, average=self.average)
        self.writer = Writer(self.average or model, store.tokenizer)
        self.path = Path()
        self.best: Score | None = None
        self.best_step, self.stale, self.validated = 0, 0, -1
        self.before: tuple[float, float] | None = None  # training and validation loss of the last validation

    def describe(self, corpus: Corpus) -> dict[str, Any]:
        """What config.json holds: with the folder's other files, enough to open, explain and repeat the run."""
        return {
            "format": folder.FORMAT,
            "charlm": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **self.plan.to_dict(),
            "seq_len": self.windows.seq_len,
            "params": parameter_count(self.trainer.model),
            "tokenizer_sha256": self.store.tokenizer.sha256,
            "corpus": {
                "name": corpus.name,
                "paths": [str(path) for path in corpus.paths],
                "sha256": self.store.corpus_sha256,
            },
        }

    def run(self) -> Iterator[Event]:
        """Train until the budget is spent, patience ends or `stop` is set."""
        here, train = self.trainer.position, self.plan.train
        splits = {"train": self.store.train, "validation": self.store.validation, "test": self.store.test}
        yield Started(
            self.path,
            self.plan,
            parameter_count(self.trainer.model),
            splits,
            self.store.tokenizer.vocab_size,
            self.where,
        )
        yield from self.warnings()
        validation = Timer(Interval.parse("--eval-every", train.eval_every, auto=True), here.step)
        saving = Timer(Interval.parse("--save-every", train.save_every), here.step)
        losses = torch.zeros((), device=self.trainer.device)
        since = here.step
        for step in self.trainer:
            losses += step.nats
            yield step
            if self.stop.is_set():
                self.save()
                yield Stopped(self.path, step.number)
                return
            if step.progress < 1 and validation.due(step.number):
                began = time.monotonic()
                yield from self.validate(float(losses) / (step.number - since))
                losses.zero_()
                since = step.number
                validation.reset(step.number, time.monotonic() - began)
                if train.patience and self.stale >= train.patience:
                    yield Note(f"stopped early: {self.stale} validations without a new best (--patience)")
                    break
            elif saving.due(step.number):
                self.save()
                saving.reset(step.number, 0.0)
        if here.step > self.validated:
            yield from self.validate(float(losses) / max(here.step - since, 1))
        yield self.end()

    def warnings(self) -> Iterator[Note]:
        """What was done differently from what was asked, because of the text."""
        asked, got = self.plan.train, self.windows
        if (got.seq_len, got.batch_size) != (asked.seq_len, asked.batch_size):
            yield Note(
                f"the training text holds only {len(self.store.train)} tokens: "
                f"sequences of {got.seq_len} (asked: {asked.seq_len}), {got.batch_size} per batch ({asked.batch_size})"
            )
        if not len(self.store.validation):
            yield Note("no validation text: the last weights are kept, and nothing tells learning from copying")

    def validate(self, train_nats: float) -> Iterator[Event]:
        """Save, score the validation text, keep the weights if they are the best, write a sample."""
        here = self.trainer.position
        self.save()
        self.validated = here.step
        if len(self.store.validation):
            score = score_split(self.writer, self.store.validation, self.store.train)
            best = self.best is None or score.bits_per_byte < self.best.bits_per_byte
            if best:
                self.best, self.best_step, self.stale = score, here.step, 0
                self.save_best()
            else:
                self.stale += 1
            self.log(train_nats, score)
            yield Validated(here.step, here.clock(), train_nats, score, best)
            yield from self.gap(train_nats, score.nats_per_token)
        else:
            self.best_step = here.step
            self.save_best()
            self.log(train_nats, None)
        yield self.write_sample()

    def gap(self, train_nats: float, nats: float) -> Iterator[Note]:
        """Say so when the model gets better at the training text alone."""
        if self.before and train_nats < self.before[0] and nats > self.before[1] and self.stale >= 2:
            yield Note(
                f"training loss fell to {train_nats:.3f} while validation loss rose to {nats:.3f}: the model is learning "
                "its training text by heart; try more --dropout, a smaller model, or --patience 3"
            )
        self.before = (train_nats, nats)

    def write_sample(self) -> Wrote:
        began, texts = time.monotonic(), []
        for number, piece in enumerate(self.writer.pieces("", SampleSettings(), seed=self.plan.train.seed)):
            texts.append(piece.texts[0])
            if number + 1 == SAMPLE_TOKENS or time.monotonic() - began > SAMPLE_SECONDS:
                break
        wrote = Wrote(self.trainer.position.step, "".join(texts))
        with (self.path / "samples.txt").open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"--- step {wrote.step}\n{wrote.text}\n")
        return wrote

    def save(self) -> None:
        """A checkpoint to resume from, and the newest weights to look at."""
        here = self.trainer.position
        notes = {"stale": self.stale, "before": self.before, "validated": self.validated}
        checkpoint.save_training(self.path / "training.safetensors", self.trainer, notes)
        checkpoint.save_weights(self.path / "last.safetensors", self.writer.model, {"step": here.step})
        self.save_summary(finished=False)

    def save_best(self) -> None:
        score = self.best._asdict() if self.best else None
        metadata = {"step": self.best_step, "score": score}
        checkpoint.save_weights(self.path / "model.safetensors", self.writer.model, metadata)
        self.save_summary(finished=False)

    def save_summary(self, *, finished: bool) -> None:
        here = self.trainer.position
        summary = {
            "step": here.step,
            "tokens": here.tokens,
            "seconds": round(here.clock(), 2),
            "progress": round(self.trainer.progress(), 4),
            "finished": finished,
            "best": self.best._asdict() if self.best else None,
            "best_step": self.best_step,
        }
        folder.write_json(self.path / "training.json", summary)

    def log(self, train_nats: float, score: Score | None) -> None:
        here = self.trainer.position
        line = {"step": here.step, "tokens": here.tokens, "seconds": round(here.clock(), 2), "train_nats": train_nats}
        if score:
            line |= describe(self.trainer.model, score, self.plan.arch)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def restore(self) -> None:
        """Stand where the run's last checkpoint stands. What was logged after it will happen again, so it is cut off."""
        notes = checkpoint.load_training(self.path / "training.safetensors", self.trainer)
        self.stale, self.validated = notes["stale"], notes["validated"]
        self.before = tuple(notes["before"]) if notes["before"] else None
        if (self.path / "model.safetensors").exists():
            _, kept = checkpoint.load_tensors(self.path / "model.safetensors")
            self.best, self.best_step = Score(**kept["score"]) if kept["score"] else None, kept["step"]
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            past = [line for line in lines if json.loads(line)["step"] <= self.trainer.position.step]
            with folder.replacing(metrics) as beside:
                beside.write_text("".join(past), encoding="utf-8")

    def end(self) -> Ended:
        self.save_summary(finished=True)
        here = self.trainer.position
        reference = None
        if len(self.store.validation):
            decode = self.store.tokenizer.decode
            reference = baselines(decode(self.store.train.ids[-BASELINE_CHARS:]), decode(self.store.validation.ids))
        seconds = here.clock()
        return Ended(self.path, self.best, self.best_step, here.step, seconds, here.tokens / seconds, reference)
