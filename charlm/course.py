"""The course of a training: its steps, and between them validations, checkpoints and samples, as events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from charlm import kinds
from charlm.baselines import Baselines
from charlm.energy import Meter
from charlm.errors import RunError
from charlm.events import Control, Ended, Event, Note, Started, Stopped, Validated, Wrote
from charlm.interval import Interval
from charlm.kinds._base import AnyStore
from charlm.model import LanguageModel, parameter_count
from charlm.plan import Plan
from charlm.runs.record import Record
from charlm.score import BITS
from charlm.timer import Timer
from charlm.training import together
from charlm.training.loop import Trainer
from charlm.training.world import World
from charlm.work import multiply_adds
from charlm.writer import Writer

VALIDATION_SHARE, SAMPLE_SHARE = 0.05, 0.02  # of the time, by default
CHECKED = 8  # steps between checks for skipped steps; so many skipped in a row are an explosion
ROLLBACKS = 3  # to the last checkpoint, before the training fails


class Course:
    """One training with its validations, checkpoints and samples; `run` is the generator.

    Raises `SettingsError` for what the device cannot compute or hold.
    """

    def __init__(self, plan: Plan, store: AnyStore, control: Control | None, world: World | None) -> None:
        self.store, self.control, self.kind = store, control or Control(), kinds.load(plan.kind)
        self.batches = store.batches(plan.train)
        self.trainer = Trainer.from_plan(plan, self.batches, store.spec(plan.train), world)
        self.plan = replace(plan, train=self.trainer.settings)
        self.work = multiply_adds(plan.outline(self.trainer.model.spec))
        self.writer = Writer(self.trainer.whole, store.vocabularies, kind=plan.kind, objective=plan.objective)
        place = self.trainer.device
        self.record = Record(Path(), plan.arch, Meter(place, self.trainer.world.size if place.type == "cuda" else 1))
        self.validation_seconds: float | None = None  # of the last one
        self.warned = False  # of overfitting
        self.sample_seconds = 0.0

    def run(self, stop_after: int | None = None) -> Iterator[Event]:
        """Train until the budget or the patience is spent, `control` asks to stop, or after `stop_after` steps."""
        trainer, position, train, control = self.trainer, self.trainer.position, self.plan.train, self.control
        yield from self.begin()
        validation = Timer(Interval.parse("--eval-every", train.eval_every, auto=True), VALIDATION_SHARE)
        saving, sampling = Timer(Interval.parse("--save-every", train.save_every)), Timer(Interval(), SAMPLE_SHARE)
        if pending := self.record.pending:  # it was stopped when a validation was due
            yield from self.validate()
        last = position.step + (stop_after or sys.maxsize)
        for step in () if pending and not self.has_patience() else trainer:
            self.record.add_loss(step)
            yield step
            while trainer.recorder.notes:
                yield Note(trainer.recorder.notes.pop())
            check = step.number % CHECKED == 0 or step.progress == 1 or control.stop
            if check and (yield from self.check_explosion()):
                continue
            if control.stop or position.step >= last:
                self.record.pending = step.progress < 1 and validation.due(position.step, self.validation_cost())
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
            elif control.save or saving.due(step.number):
                yield from self.save(requested=control.save)
                control.save = False
                saving.reset()
            if sampling.due(step.number, self.sample_seconds):
                yield from self.sample()
                sampling.reset()
        yield from self.finish()

    def begin(self) -> Iterator[Event]:
        """Report what is trained, and compile where the plan says so."""
        trainer, store = self.trainer, self.store
        splits = {"train": store.train, "validation": store.validation, "test": store.test}
        sizes = parameter_count(trainer.model), self.work, splits, store.tokenizer.vocab_size
        yield Started(self.record.path, self.plan, *sizes, trainer.where)
        yield from self.warnings()
        if self.plan.train.compile == "on":
            yield Note("compiling; the clock has not started")
            together.translate(trainer)

    def finish(self) -> Iterator[Event]:
        """Validate the last step, mark the run as finished, and report."""
        trainer, record, position = self.trainer, self.record, self.trainer.position
        self.pause()
        if not self.has_patience():
            yield Note(f"stopped early: {record.stale} validations without a new best (--patience)")
        trainer.skipped.zero_()  # the end is saved, even if its last step was skipped
        if position.step > record.validated:
            yield from self.validate()
            yield from self.sample()
        record.finish(trainer, self.writer.model)
        seconds = position.clock.seconds
        speed = position.tokens / seconds
        best = record.best, record.best_step
        yield Ended(record.path, *best, position.step, seconds, speed, record.energy, self.baselines)

    def pause(self) -> None:
        """Stop the clock, and let the network that is scored and saved have the weights as they are now."""
        self.trainer.pause()
        together.gather(self.trainer)

    def baselines(self) -> Baselines | None:
        """What simple methods reach on the validation part; None if the scores are not in bits per byte."""
        best = self.record.best
        return self.kind.baselines(self.store) if best and best.measure == BITS else None

    def has_patience(self) -> bool:
        """Whether fewer than `--patience` validations in a row were no new best."""
        return not self.plan.train.patience or self.record.stale < self.plan.train.patience

    def save(self, *, requested: bool = False) -> Iterator[Note]:
        """Write a checkpoint; after skipped steps only on request, as it is a bad one to go back to."""
        if int(self.trainer.skipped) and not requested:
            return
        self.pause()
        previous = self.record.saved
        yield from self.try_writing(partial(self.record.save, self.trainer, self.writer.model))
        if requested and self.record.saved > previous:
            yield Note(f"saved, as asked, at step {self.record.saved}")

    def try_writing(self, write: Callable[[], object]) -> Iterator[Note]:
        """Call `write`; if that fails, such as on a full disk, report it and go on training."""
        try:
            write()
        except RunError as error:
            yield Note(f"{error}; training goes on, what was saved stays, and the next save tries again")

    def stop(self) -> Stopped:
        """Save, and return the event. Raises `RunError` if it cannot be saved."""
        self.pause()
        self.record.save(self.trainer, self.writer.model)
        return Stopped(self.record.path, self.record.saved)

    def check_explosion(self) -> Generator[Event, None, bool]:
        """Go back to the last checkpoint, with half the learning rate, if `CHECKED` steps in a row were skipped.

        Returns whether it went back. Raises `RunError` if it did so `ROLLBACKS` times before.
        """
        trainer, record, position, lr = self.trainer, self.record, self.trainer.position, self.plan.train.lr
        skipped = int(trainer.skipped)
        if skipped:
            changed = f"the last {skipped} steps" if skipped > 1 else "the last step"
            reason = "the loss or its gradient was no finite number"
            yield Note(f"{changed} up to {position.step} changed nothing: {reason}")
        if skipped < CHECKED:
            return False
        trainer.pause()
        scale, clock = position.lr_scale / 2, position.clock
        if scale < 0.5**ROLLBACKS:
            raise RunError(
                f"the loss is no finite number at step {position.step}, though the learning rate was halved "
                f"{ROLLBACKS} times; {record.path} stands at step {record.saved}, the last good one; train anew with a "
                f"lower --lr than {lr:g}, or with --clip 1"
            )
        record.restore(trainer)
        position.lr_scale, position.clock = scale, clock  # the time since the checkpoint counts
        trainer.skipped.zero_()
        rate = f"half the learning rate: {lr * scale:g}"
        yield Note(f"back to step {position.step}, the last good checkpoint, with {rate}")
        if record.pending:
            yield from self.validate()
        return True

    def validation_cost(self) -> float:
        """Expected seconds of a validation: those of the last one, or an estimate by the speed of training so far."""
        if self.validation_seconds is None:
            position = self.trainer.position
            model = self.trainer.model
            passes = 2 if isinstance(model, LanguageModel) and model.window else 1  # windows overlap
            return passes * len(self.store.validation) * position.clock.seconds / (3 * position.tokens)
        return self.validation_seconds

    def warnings(self) -> Iterator[Note]:
        """Notes on what the data did not allow."""
        if (parallel := self.plan.train.parallel) != "ddp" and self.trainer.world.size == 1:
            yield Note(f"--parallel {parallel} is for several processes, which torchrun starts; there is only this one")
        yield from map(Note, self.store.notes)
        if shortened := self.kind.shortened(self.store, self.plan.train):
            yield Note(shortened)
        if not len(self.store.validation):
            yield Note("no validation text: the last weights are kept, and nothing tells learning from copying")

    def validate(self) -> Iterator[Event]:
        """Save, score the validation part, keep the weights if they are the best."""
        self.pause()
        trainer, record, step, began = self.trainer, self.record, self.trainer.position.step, time.monotonic()
        model, score = self.writer.model, None
        record.pending = True
        yield from self.save()
        train_nats = float(record.nats) / max(int(record.tokens), 1)
        record.nats, record.tokens, record.validated, record.pending = 0.0, 0, step, False
        if len(self.store.validation):
            score = yield from trainer.objective.score(model, self.store.validation)
            yield from self.try_writing(partial(record.add_score, score, step, trainer, model))
        else:
            yield from self.try_writing(partial(record.save_best, None, step, trainer, model))
        yield from self.try_writing(partial(record.log, trainer, train_nats, score))
        if score:
            yield Validated(step, trainer.position.clock.seconds, train_nats, score, record.best is score)
            yield from self.warn_of_overfitting((train_nats, score.nats_per_token))
        self.validation_seconds = time.monotonic() - began

    def warn_of_overfitting(self, losses: tuple[float, float]) -> Iterator[Note]:
        """Report overfitting: the training loss fell while the validation loss rose. `losses` are these two."""
        previous, self.record.losses = self.record.losses, losses
        apart = previous and losses[0] < previous[0] and losses[1] > previous[1]
        if apart and self.record.stale >= 2 and not self.warned:
            self.warned = True
            yield Note(
                f"training loss fell to {losses[0]:.3f} while validation loss rose to {losses[1]:.3f}: the model is "
                "overfitting, learning its training text by heart; try more --dropout, a smaller model, or --patience 3"
            )

    def sample(self) -> Iterator[Event]:
        """Save, and write a sample with the weights as they are."""
        self.pause()
        if self.record.saved < self.trainer.position.step:
            yield from self.save()
        began, step = time.monotonic(), self.trainer.position.step
        text = self.kind.glimpse(self.writer, self.store, self.plan.train.seed)
        self.sample_seconds = time.monotonic() - began
        if text:
            yield from self.try_writing(partial(self.record.log_sample, step, text))
            yield Wrote(step, text)
