"""The whole job, from a text to a run folder, as a generator of what happened. The caller draws, logs and stops."""

from __future__ import annotations

import copy
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charlm import __version__
from charlm.baselines import LONGEST_TRAIN, Baselines, baselines
from charlm.config import DataSpec, Interval, TrainSettings
from charlm.device import choose_device, settle
from charlm.errors import SettingsError
from charlm.model import parameter_count
from charlm.plan import BUDGETS, Plan
from charlm.runs import folder
from charlm.runs.record import Record
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
    path = folder.create(out, f"{corpus.name}-{plan.arch}")
    job = Job(plan, store, path, stop)
    folder.write_json(path / "tokenizer.json", store.tokenizer.to_json())
    folder.write_json(path / "config.json", job.describe(corpus))
    yield from job.run()


def resume(
    path: Path, *, cache_dir: Path | None = None, changes: dict[str, Any], stop: threading.Event | None = None
) -> Iterator[Event]:
    """Go on with a run where its last checkpoint stands; `changes` may name a larger budget and nothing else.

    Raises `RunError` if the folder is not whole or its corpus is gone or changed.
    """
    config = folder.info(path).config
    plan = Plan.from_dict(config)
    if changes.keys() - BUDGETS:
        flags = ", ".join("--" + name.replace("_", "-") for name in sorted(changes.keys() - BUDGETS))
        raise SettingsError(f"{flags} would make {path} another run; with --resume only the budget may change")
    if changes:
        train = {name: value for name, value in plan.train.to_dict().items() if name not in BUDGETS}
        plan = replace(plan, train=TrainSettings(**train, **changes))
    store = yield from prepare(same_corpus(path, config), plan.data, cache_dir)
    job = Job(plan, store, path, stop)
    job.record.restore(job.trainer)
    folder.write_json(path / "config.json", config | plan.to_dict())
    yield from job.run()


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

    def __init__(self, plan: Plan, store: Store, path: Path, stop: threading.Event | None) -> None:
        device = choose_device(plan.train.device)
        train, self.where = settle(plan.train, device)
        self.plan, self.store, self.stop = replace(plan, train=train), store, stop or threading.Event()
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
        self.record = Record(path, plan.arch)

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
            self.record.path,
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
                self.record.save(self.trainer, self.writer.model)
                yield Stopped(self.record.path, step.number)
                return
            if step.progress < 1 and validation.due(step.number):
                began = time.monotonic()
                yield from self.validate(float(losses) / (step.number - since))
                losses.zero_()
                since = step.number
                validation.reset(step.number, time.monotonic() - began)
                if train.patience and self.record.stale >= train.patience:
                    yield Note(f"stopped early: {self.record.stale} validations without a new best (--patience)")
                    break
            elif saving.due(step.number):
                self.record.save(self.trainer, self.writer.model)
                saving.reset(step.number, 0.0)
        if here.step > self.record.validated:
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
        trainer, record, step = self.trainer, self.record, self.trainer.position.step
        record.save(trainer, self.writer.model)
        record.validated = step
        if len(self.store.validation):
            score = score_split(self.writer, self.store.validation, self.store.train)
            best = record.take(score, step)
            if best:
                record.save_best(trainer, self.writer.model)
            record.log(trainer, train_nats, score)
            yield Validated(step, trainer.position.clock(), train_nats, score, best)
            yield from self.gap((train_nats, score.nats_per_token))
        else:
            record.best_step = step
            record.save_best(trainer, self.writer.model)
            record.log(trainer, train_nats, None)
        text = self.sample()
        record.log_sample(step, text)
        yield Wrote(step, text)

    def gap(self, losses: tuple[float, float]) -> Iterator[Note]:
        """Say so when the model gets better at the training text alone."""
        before, self.record.losses = self.record.losses, losses
        if before and losses[0] < before[0] and losses[1] > before[1] and self.record.stale >= 2:
            yield Note(
                f"training loss fell to {losses[0]:.3f} while validation loss rose to {losses[1]:.3f}: the model is "
                "learning its training text by heart; try more --dropout, a smaller model, or --patience 3"
            )

    def sample(self) -> str:
        """A little text from the model as it is, cut short where writing is slow."""
        began, texts = time.monotonic(), []
        for piece in islice(self.writer.pieces("", SampleSettings(), seed=self.plan.train.seed), SAMPLE_TOKENS):
            texts.append(piece.texts[0])
            if time.monotonic() - began > SAMPLE_SECONDS:
                break
        return "".join(texts)

    def end(self) -> Ended:
        self.record.summarise(self.trainer, finished=True)
        record, here = self.record, self.trainer.position
        reference, seconds = None, here.clock()
        if len(self.store.validation):
            decode = self.store.tokenizer.decode
            reference = baselines(decode(self.store.train.ids[-LONGEST_TRAIN:]), decode(self.store.validation.ids))
        speed = here.tokens / seconds
        return Ended(record.path, record.best, record.best_step, here.step, seconds, speed, reference)
