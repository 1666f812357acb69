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
from typing import Any

import torch

from charlm import __version__
from charlm.baselines import LONGEST_TRAIN, LONGEST_VALIDATION, baselines
from charlm.config import DataSpec, Interval, TrainSettings
from charlm.device import choose_device, refuse_what_cannot_fit, settle
from charlm.errors import SettingsError
from charlm.events import Ended, Event, Note, Started, Stopped, Validated, Wrote
from charlm.model import parameter_count
from charlm.plan import BUDGETS, Plan, merge
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.record import Record
from charlm.sampling.settings import SampleSettings
from charlm.scoring import same_store, score_split
from charlm.text.corpus import Corpus
from charlm.text.store import Store, prepare
from charlm.text.windows import Windows
from charlm.training.loop import Trainer
from charlm.training.optim import build_optimizers
from charlm.writer import Writer

VALIDATION_SHARE, SAMPLE_SHARE = 0.05, 0.02  # of the time, where nothing else is asked for
SAMPLE_TOKENS, SAMPLE_SECONDS = 300, 0.4  # what is written on the way, whichever ends first


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
    job = Job(plan, store, stop)
    path = job.record.path = folder.claim(out, f"{corpus.name}-{plan.arch}")  # what cannot be trained leaves no folder
    folder.write_json(path / "tokenizer.json", store.tokenizer.to_json())
    folder.write_json(path / "config.json", job.describe(corpus))
    yield from job.run()


MAY_CHANGE = {*BUDGETS, "device", "precision", "compile", "eval_every", "save_every", "patience"}


def resume(
    path: Path, *, cache_dir: Path | None = None, changes: dict[str, Any], stop: threading.Event | None = None
) -> Iterator[Event]:
    """Go on with a run where its last checkpoint stands; `changes` may name a larger budget, counted from the start,
    and settings that do not make it another run.

    Raises `RunError` if the folder is not whole or its corpus is gone or changed, `SettingsError` if nothing is left
    to do.
    """
    found = folder.info(path)
    plan = Plan.from_dict(found.config)
    if strange := sorted(changes.keys() - MAY_CHANGE):
        flags = ", ".join("--" + name.replace("_", "-") for name in strange)
        raise SettingsError(f"{flags} would make {path} another run; with --resume the budget may change, not that")
    plan = replace(plan, train=TrainSettings(**merge(plan.train.to_dict(), changes)))
    store = yield from same_store(found, cache_dir)
    job = Job(plan, store, stop)
    job.record.path = path
    job.record.restore(job.trainer)
    if found.training.get("finished") and job.trainer.progress() == 1:
        spent = next(f"--{name} {value}" for name, value in plan.train.to_dict().items() if name in BUDGETS and value)
        raise SettingsError(f"{path} has had its {spent}; to go on, give more in total, such as twice that")
    folder.write_json(path / "config.json", found.config | plan.to_dict())
    yield from job.run()


class Timer:
    """Says when it is time again. An automatic interval lets what it times take `share` of the time."""

    def __init__(self, interval: Interval, share: float = 0.0) -> None:
        self.interval, self.share = interval, share
        self.since = time.monotonic()

    def due(self, step: int, cost: float = 0.0) -> bool:
        """Whether to do now what will take `cost` seconds."""
        if self.interval.steps:
            return step % self.interval.steps == 0
        wait = self.interval.seconds or max(cost / self.share, 5.0)
        return time.monotonic() - self.since >= wait

    def reset(self) -> None:
        self.since = time.monotonic()


class Job:
    """One training with everything around it; `run` is the generator."""

    def __init__(self, plan: Plan, store: Store, stop: threading.Event | None) -> None:
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
        with torch.device("meta"):  # sizes without memory
            refuse_what_cannot_fit(parameter_count(plan.build(spec)), device)
        torch.manual_seed(train.seed)
        model = plan.build(spec).to(device)
        self.average = copy.deepcopy(model).requires_grad_(False) if train.ema else None
        self.trainer = Trainer(model, self.windows, build_optimizers(model, train), train, average=self.average)
        self.writer = Writer(self.average or model, store.tokenizer)
        self.record = Record(Path(), plan.arch)
        self.last_cost: float | None = None  # seconds of the last validation
        self.sample_cost = 0.0

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
                "paths": [str(path if str(path) == "-" else path.resolve()) for path in corpus.paths],
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
        validation = Timer(Interval.parse("--eval-every", train.eval_every, auto=True), VALIDATION_SHARE)
        saving, sampling = Timer(Interval.parse("--save-every", train.save_every)), Timer(Interval(), SAMPLE_SHARE)
        if self.record.pending:  # it was stopped when a validation was due
            yield from self.validate()
        for step in self.trainer:
            self.record.nats = self.record.nats + step.nats
            yield step
            if self.stop.is_set():
                self.record.pending = step.progress < 1 and validation.due(step.number, self.validation_cost())
                self.record.save(self.trainer, self.writer.model)
                yield Stopped(self.record.path, step.number)
                return
            if step.progress == 1:
                break
            if validation.due(step.number, self.validation_cost()):
                yield from self.validate()
                validation.reset()
                saving.reset()
                if train.patience and self.record.stale >= train.patience:
                    yield Note(f"stopped early: {self.record.stale} validations without a new best (--patience)")
                    break
            elif saving.due(step.number):
                self.record.save(self.trainer, self.writer.model)
                saving.reset()
            if sampling.due(step.number, self.sample_cost):
                yield self.sample()
                sampling.reset()
        seconds = here.clock()
        if here.step > self.record.validated:
            yield from self.validate()
            yield self.sample()
        self.record.summarise(self.trainer, finished=True)
        yield Progress("seeing what simple methods reach", 0, 1)
        yield self.end(seconds)

    def validation_cost(self) -> float:
        """Seconds that a validation will take: as the last one did, or by the speed of training so far."""
        if self.last_cost is None:
            here, sliding = self.trainer.position, 1 if self.trainer.model.window is None else 2
            return sliding * len(self.store.validation) * here.clock() / (3 * here.tokens)
        return self.last_cost

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

    def validate(self) -> Iterator[Event]:
        """Save, score the validation text, keep the weights if they are the best."""
        trainer, record, step, began = self.trainer, self.record, self.trainer.position.step, time.monotonic()
        record.pending = True
        record.save(trainer, self.writer.model)
        train_nats = float(record.nats) / max(step - max(record.validated, 0), 1)
        record.nats, record.validated, record.pending = 0.0, step, False
        if len(self.store.validation):
            score = yield from score_split(self.writer, self.store.validation, self.store.train)
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
        self.last_cost = time.monotonic() - began

    def gap(self, losses: tuple[float, float]) -> Iterator[Note]:
        """Say so when the model gets better at the training text alone."""
        before, self.record.losses = self.record.losses, losses
        if before and losses[0] < before[0] and losses[1] > before[1] and self.record.stale >= 2:
            yield Note(
                f"training loss fell to {losses[0]:.3f} while validation loss rose to {losses[1]:.3f}: the model is "
                "learning its training text by heart; try more --dropout, a smaller model, or --patience 3"
            )

    def sample(self) -> Wrote:
        """A little text from the model as it is, cut short where writing is slow."""
        began, texts, step = time.monotonic(), [], self.trainer.position.step
        for piece in islice(self.writer.pieces("", SampleSettings(), seed=self.plan.train.seed), SAMPLE_TOKENS):
            texts.append(piece.texts[0])
            if time.monotonic() - began > SAMPLE_SECONDS:
                break
        self.sample_cost = time.monotonic() - began
        wrote = Wrote(step, "".join(texts))
        self.record.log_sample(step, wrote.text)
        return wrote

    def end(self, seconds: float) -> Ended:
        record, here, reference = self.record, self.trainer.position, None
        if len(self.store.validation):
            decode = self.store.tokenizer.decode
            reference = baselines(
                decode(self.store.train.ids[-LONGEST_TRAIN:]), decode(self.store.validation.ids[:LONGEST_VALIDATION])
            )
        speed = here.tokens / seconds
        return Ended(record.path, record.best, record.best_step, here.step, seconds, speed, reference)
