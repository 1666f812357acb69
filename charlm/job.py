"""The whole job, from a text to a run folder, as a generator of what happened. The caller draws, logs and stops."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from charlm import kinds
from charlm.baselines import Baselines
from charlm.config import BUDGETS, TrainSettings, flag
from charlm.errors import RunError, SettingsError
from charlm.events import Ended, Event, Note, Started, Stopped, Validated, Wishes, Wrote
from charlm.interval import Interval
from charlm.kinds._base import AnyCorpus, AnyStore
from charlm.model import parameter_count
from charlm.plan import Plan, merge
from charlm.runs import folder
from charlm.runs.record import Record
from charlm.score import BITS
from charlm.scoring import same_store
from charlm.timer import Timer
from charlm.training.loop import Trainer
from charlm.writer import Writer

VALIDATION_SHARE, SAMPLE_SHARE = 0.05, 0.02  # of the time, where nothing else is asked for
LOOK = 8  # steps after which it is asked whether they were skipped; so many in a row are an explosion
ROLLBACKS = 3


def train(
    plan: Plan,
    corpus: AnyCorpus,
    *,
    out: Path | None = None,
    cache_dir: Path | None = None,
    stop_after: int | None = None,
    wishes: Wishes | None = None,
) -> Iterator[Event]:
    """Train from the beginning into a new folder, `out` or one named after the corpus and the architecture.

    Stops after `stop_after` steps of the plan, to be resumed; `wishes` may be set meanwhile. Raises `RunError` if the
    folder holds a run, is in use or cannot be written, or if the loss stays no number whatever the learning rate.
    """
    store = yield from kinds.load(plan.kind).prepare(corpus, plan.data, cache_dir)
    job = Job(plan, store, wishes)
    path = job.record.path = folder.claim(out, f"{corpus.name}-{plan.arch}")  # what cannot be trained leaves no folder
    with folder.locked(path):
        job.record.begin(job.plan, store, corpus, job.trainer, job.writer.model)
        yield from job.run(stop_after)


MAY_CHANGE = {*BUDGETS, "device", "precision", "compile", "eval_every", "save_every", "patience"}


def resume(
    path: Path,
    *,
    changes: dict[str, Any],
    previous: bool = False,
    cache_dir: Path | None = None,
    stop_after: int | None = None,
    wishes: Wishes | None = None,
) -> Iterator[Event]:
    """Go on with a run where its last checkpoint stands, or the one before that; `changes` may name a larger budget,
    counted from the start, and settings that do not make it another run. The rest is as in `train`.

    Raises `RunError` if the folder is not whole or its corpus is gone or changed, `SettingsError` if nothing is left
    to do.
    """
    found = folder.info(path)
    plan = Plan.from_dict(found.config)
    if strange := sorted(changes.keys() - MAY_CHANGE):
        flags = ", ".join(map(flag, strange))
        raise SettingsError(f"{flags} would make {path} another run; with --resume the budget may change, not that")
    plan = replace(plan, train=TrainSettings(**merge(plan.train.to_dict(), changes)))
    store = yield from same_store(found, cache_dir)
    with folder.locked(path):
        job = Job(plan, store, wishes)
        job.record.path = path
        if previous:
            job.record.go_back(job.trainer)
        job.record.restore(job.trainer)
        if found.training.get("finished") and not previous and job.trainer.progress() == 1:
            spent = " ".join(f"{flag(name)} {value}" for name, value in plan.train.budgets.items())
            raise SettingsError(f"{path} has had its {spent}; to go on, give more in total, such as twice that")
        folder.write_json(path / "config.json", found.config | plan.to_dict())
        yield from job.run(stop_after)


class Job:
    """One training with everything around it; `run` is the generator."""

    def __init__(self, plan: Plan, store: AnyStore, wishes: Wishes | None) -> None:
        self.store, self.wishes, self.kind = store, wishes or Wishes(), kinds.load(plan.kind)
        self.batches = store.batches(plan.train)
        self.trainer = Trainer.from_plan(plan, self.batches, store.spec(plan.train))
        self.plan = replace(plan, train=self.trainer.settings)
        kept = self.trainer.average or self.trainer.model
        self.writer = Writer(kept, store.vocabularies, kind=plan.kind, objective=plan.objective)
        self.record = Record(Path(), plan.arch)
        self.last_cost: float | None = None  # seconds of the last validation
        self.sample_cost = 0.0

    def run(self, stop_after: int | None = None) -> Iterator[Event]:
        """Train until the budget is spent, patience ends, or someone or `stop_after` steps stop it."""
        trainer, here, train, wishes = self.trainer, self.trainer.position, self.plan.train, self.wishes
        splits = {"train": self.store.train, "validation": self.store.validation, "test": self.store.test}
        facts = parameter_count(trainer.model), splits, self.store.tokenizer.vocab_size, trainer.where
        yield Started(self.record.path, self.plan, *facts)
        yield from self.warnings()
        if train.compile == "on":
            yield Note("compiling; the clock has not started")
            trainer.compile()
        validation = Timer(Interval.parse("--eval-every", train.eval_every, auto=True), VALIDATION_SHARE)
        saving, sampling = Timer(Interval.parse("--save-every", train.save_every)), Timer(Interval(), SAMPLE_SHARE)
        if pending := self.record.pending:  # it was stopped when a validation was due
            yield from self.validate()
        last = here.step + (stop_after or sys.maxsize)
        for step in () if pending and not self.has_patience() else trainer:
            self.record.add_loss(step)
            yield step
            if (step.number % LOOK == 0 or step.progress == 1 or wishes.stop) and (yield from self.check_explosion()):
                continue
            if wishes.stop or here.step >= last:
                self.record.pending = step.progress < 1 and validation.due(here.step, self.validation_cost())
                yield self.stop()
                return
            if step.progress == 1:
                break
            if validation.due(step.number, self.validation_cost()) and not int(trainer.skipped):
                yield from self.validate()
                validation.reset()
                saving.reset()
                if not self.has_patience():
                    break
            elif wishes.save or saving.due(step.number):
                yield from self.save(asked=wishes.save)
                wishes.save = False
                saving.reset()
            if sampling.due(step.number, self.sample_cost):
                yield from self.sample()
                sampling.reset()
        trainer.pause()
        if not self.has_patience():
            yield Note(f"stopped early: {self.record.stale} validations without a new best (--patience)")
        trainer.skipped.zero_()  # the end is kept, even if its last step was skipped
        if here.step > self.record.validated:
            yield from self.validate()
            yield from self.sample()
        self.record.finish(trainer, self.writer.model)
        record, seconds = self.record, here.clock.seconds
        speed = here.tokens / seconds
        yield Ended(record.path, record.best, record.best_step, here.step, seconds, speed, self.baselines)

    def baselines(self) -> Baselines | None:
        """What simple methods reach; None where that does not compare."""
        best = self.record.best
        return self.kind.baselines(self.store) if best and best.measure == BITS else None

    def has_patience(self) -> bool:
        return not self.plan.train.patience or self.record.stale < self.plan.train.patience

    def save(self, *, asked: bool = False) -> Iterator[Note]:
        """A checkpoint. While steps are skipped only if someone asked: it is no good place to come back to."""
        if int(self.trainer.skipped) and not asked:
            return
        self.trainer.pause()
        before = self.record.saved
        yield from self.try_writing(partial(self.record.save, self.trainer, self.writer.model))
        if asked and self.record.saved > before:
            yield Note(f"saved, as asked, at step {self.record.saved}")

    def try_writing(self, write: Callable[[], object]) -> Iterator[Note]:
        """Write something; a disk that is full today need not end the training."""
        try:
            write()
        except RunError as error:
            yield Note(f"{error}; training goes on, what was saved stays, and the next save tries again")

    def stop(self) -> Stopped:
        """Save, and say from where to go on. Raises `RunError` if it cannot be saved."""
        self.trainer.pause()
        self.record.save(self.trainer, self.writer.model)
        return Stopped(self.record.path, self.record.saved)

    def check_explosion(self) -> Generator[Event, None, bool]:
        """Go back to the last checkpoint, with half the learning rate, if many steps in a row were skipped.

        Returns whether it did. Raises `RunError` if that was done `ROLLBACKS` times before.
        """
        trainer, record, here, lr = self.trainer, self.record, self.trainer.position, self.plan.train.lr
        skipped = int(trainer.skipped)
        if skipped:
            changed = f"the last {skipped} steps" if skipped > 1 else "the last step"
            yield Note(f"{changed} up to {here.step} changed nothing: the loss or its gradient was no finite number")
        if skipped < LOOK:
            return False
        trainer.pause()
        scale, clock = here.lr_scale / 2, here.clock
        if scale < 0.5**ROLLBACKS:
            raise RunError(
                f"the loss is no finite number at step {here.step}, though the learning rate was halved {ROLLBACKS} "
                f"times; {record.path} stands at step {record.saved}, the last good one; train anew with a lower --lr "
                f"than {lr:g}, or with --clip 1"
            )
        record.restore(trainer)
        here.lr_scale, here.clock = scale, clock  # the time is not given back
        trainer.skipped.zero_()
        yield Note(f"back to step {here.step}, the last good checkpoint, with half the learning rate: {lr * scale:g}")
        if record.pending:
            yield from self.validate()
        return True

    def validation_cost(self) -> float:
        """Seconds that a validation will take: as the last one did, or by the speed of training so far."""
        if self.last_cost is None:
            here, sliding = self.trainer.position, 2 if getattr(self.trainer.model, "window", None) else 1
            return sliding * len(self.store.validation) * here.clock.seconds / (3 * here.tokens)
        return self.last_cost

    def warnings(self) -> Iterator[Note]:
        """What was done differently from what was asked, because of the text."""
        yield from map(Note, self.store.notes)
        if shortened := self.kind.shortened(self.store, self.plan.train):
            yield Note(shortened)
        if not len(self.store.validation):
            yield Note("no validation text: the last weights are kept, and nothing tells learning from copying")

    def validate(self) -> Iterator[Event]:
        """Save, score the validation text, keep the weights if they are the best."""
        self.trainer.pause()
        trainer, record, step, began = self.trainer, self.record, self.trainer.position.step, time.monotonic()
        kept, score = self.writer.model, None
        record.pending = True
        yield from self.save()
        train_nats = float(record.nats) / max(int(record.tokens), 1)
        record.nats, record.tokens, record.validated, record.pending = 0.0, 0, step, False
        if len(self.store.validation):
            score = yield from trainer.objective.score(kept, self.store.validation)
            yield from self.try_writing(partial(record.add_score, score, step, trainer, kept))
        else:
            yield from self.try_writing(partial(record.save_best, None, step, trainer, kept))
        yield from self.try_writing(partial(record.log, trainer, train_nats, score))
        if score:
            yield Validated(step, trainer.position.clock.seconds, train_nats, score, record.best is score)
            yield from self.warn_of_overfitting((train_nats, score.nats_per_token))
        self.last_cost = time.monotonic() - began

    def warn_of_overfitting(self, losses: tuple[float, float]) -> Iterator[Note]:
        """Say so when the model gets better at the training text alone."""
        before, self.record.losses = self.record.losses, losses
        if before and losses[0] < before[0] and losses[1] > before[1] and self.record.stale >= 2:
            yield Note(
                f"training loss fell to {losses[0]:.3f} while validation loss rose to {losses[1]:.3f}: the model is "
                "learning its training text by heart; try more --dropout, a smaller model, or --patience 3"
            )

    def sample(self) -> Iterator[Event]:
        """Save, and write a little with the model as it is."""
        self.trainer.pause()
        if self.record.saved < self.trainer.position.step:
            yield from self.save()
        began, step = time.monotonic(), self.trainer.position.step
        text = self.kind.glimpse(self.writer, self.store, self.plan.train.seed)
        self.sample_cost = time.monotonic() - began
        if text:
            yield from self.try_writing(partial(self.record.log_sample, step, text))
            yield Wrote(step, text)
