"""Showing a training: a live display on a terminal, plain lines in a pipe, JSON, or nothing."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from charlm import archs, events, kinds
from charlm.files import in_shell
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.score import Score
from charlm.training.loop import Step
from charlm.views.console import count, duration, err, out, sample_panel, sparkline, table, watt_hours

REFRESH = 0.2  # seconds between readings of the loss: every reading waits for the device
SMOOTH = 2.0  # seconds over which the shown loss is averaged
LINE_EVERY = 10.0  # seconds between progress lines in a pipe
LOOKED_AT = "that is the best of all looks at this text; at one not looked at"
WANTED = {  # what else a command that is suggested must be given
    "neighbours": " WORD",
    "fill": ' "[MASK]"',
    "features": " FILE --out FILE.npy",
}


class Advice:
    """What to do next, as a shell takes it."""

    def resume(self, path: Path) -> str:
        return f"charlm train --resume {in_shell(path)}"

    def test(self, path: Path) -> str:
        """Score the test part, on which the best weights were not chosen."""
        return f"charlm eval {in_shell(path)} --split test"

    def use(self, path: Path, plan: Plan) -> str:
        return next_command(path, plan)

    def note(self, text: str) -> str:
        return text


SHELL = Advice()


class Silent:
    def show(self, event: events.Event) -> None: ...

    def close(self) -> None: ...


class Lines(Silent):
    """Plain lines, for a log or a pager."""

    def __init__(self, advice: Advice = SHELL) -> None:
        self.advice = advice
        self.chars_per_token, self.next, self.has_test = 1.0, "", False
        self.meter = Meter()
        self.printed = time.monotonic()  # when the last line of progress was

    def show(self, event: events.Event) -> None:
        if isinstance(event, Step):
            self.step(event)
        elif isinstance(event, Progress):
            self.progress(event)
        elif isinstance(event, events.Started):
            self.chars_per_token = event.splits["train"].chars / len(event.splits["train"])
            self.has_test, self.next = len(event.splits["test"]) > 0, self.advice.use(event.path, event.plan)
            self.say(start_summary(event))
        elif isinstance(event, events.Note):
            self.say(Text(f"note: {self.advice.note(event.text)}", "yellow"))
        elif isinstance(event, events.Validated):
            self.validated(event)
        elif isinstance(event, events.Stopped):
            self.say(f"stopped after step {event.step}, all saved; go on with: {self.advice.resume(event.path)}")
        elif isinstance(event, events.Ended):
            self.close()
            self.say(end_summary(event, self.chars_per_token))
            energy = f"about {watt_hours(event.energy.wh)} ({event.energy.source})"
            self.say(f"energy, with validations and samples: {energy}")
            if event.best and self.has_test:
                self.say(f"{LOOKED_AT}: {self.advice.test(event.path)}")
            self.say(self.next)

    def say(self, text: RenderableType) -> None:
        out.print(text, markup=False)

    def progress(self, event: Progress) -> None:
        if time.monotonic() - self.printed > 1 and event.done < event.total:
            self.printed = time.monotonic()
            self.say(f"{event.what} {event.done / max(event.total, 1):.0%}")

    def validated(self, event: events.Validated) -> None:
        score, best = event.score, "  best" if event.best else ""
        self.say(
            f"step {event.step}  {duration(event.seconds)}  training {event.train_nats:.3f}  "
            f"validation {score.nats_per_token:.4f} nats/{score.measure.scored}, "
            f"{value_and_figures(score)}{best}"
        )

    def step(self, event: Step) -> None:
        self.meter.count(event)
        if time.monotonic() - self.printed >= LINE_EVERY:
            self.printed = time.monotonic()
            self.say(self.meter.line(event, self.chars_per_token))


class Meter:
    """Loss and speed, smoothed enough to read."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.tokens = 0
        self.start: float | None = None  # progress at the first step, above 0 in a resumed run
        self.previous = 0.0, 0  # seconds of training, and tokens, when the speed was measured last
        self.speed = 0.0
        self.loss = math.nan
        self.losses: list[float] = []

    def count(self, step: Step) -> None:
        if self.start is None:
            self.began, self.start, self.previous = time.monotonic(), step.progress, (step.seconds, 0)
        else:
            self.tokens += step.tokens

    def read(self, step: Step) -> None:
        """Update loss and speed; waits for the device."""
        now, nats = time.monotonic(), float(step.nats)
        weight = 1.0 if math.isnan(self.loss) else min(1.0, (now - self.last) / SMOOTH)
        self.loss = nats if weight == 1 else self.loss + weight * (nats - self.loss)
        self.last = now
        self.losses.append(self.loss)
        seconds, tokens = self.previous
        if step.seconds - seconds >= 1:
            self.speed = (self.tokens - tokens) / (step.seconds - seconds)
            self.previous = step.seconds, self.tokens

    def line(self, step: Step, chars_per_token: float) -> str:
        self.read(step)
        spent, done = time.monotonic() - self.began, step.progress - (self.start or 0.0)
        remaining = f"  {duration(spent / done * (1 - step.progress))} left" if done > 0 else ""
        speed = f"  {count(self.speed * chars_per_token)} chars/s" if self.speed else ""
        return f"{step.progress:4.0%}  step {step.number}  loss {self.loss:.3f}{speed}{remaining}"


class Terminal(Lines):
    """`Lines` with a live display below them."""

    every = REFRESH

    def __init__(self, advice: Advice = SHELL) -> None:
        super().__init__(advice)
        self.live: Any = Live(console=out, transient=True, auto_refresh=False)
        self.refreshed = 0.0  # when the display was updated last
        self.sample, self.score = "", ""

    def show(self, event: events.Event) -> None:
        super().show(event)
        if isinstance(event, events.Started):
            self.live.start()
        elif isinstance(event, events.Wrote):
            self.sample = event.text

    def validated(self, event: events.Validated) -> None:
        self.score = f"  {event.score.value:.3f} {event.score.measure.unit}"

    def progress(self, event: Progress) -> None:
        if time.monotonic() - self.printed > 0.5:
            self.live.start()
            self.live.update(bar(event.done / max(event.total, 1), event.what), refresh=True)

    def step(self, event: Step) -> None:
        self.meter.count(event)
        if time.monotonic() - self.refreshed >= self.every or event.progress == 1:
            self.live.update(self.display(event), refresh=True)
            self.refreshed = time.monotonic()

    def display(self, step: Step) -> RenderableType:
        line = self.meter.line(step, self.chars_per_token) + self.score
        parts: list[RenderableType] = [bar(step.progress, line), Text("loss " + sparkline(self.meter.losses), "dim")]
        if self.sample:
            parts.append(sample_panel(self.sample, taken=12))
        return Group(*parts)

    def close(self) -> None:
        self.live.stop()


def bar(share: float, text: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(1.0, share, width=24), Text(text))
    return grid


def start_summary(event: events.Started) -> str:
    """Text, model and run in three lines; and a line for a GPU's recipe, which makes a larger model than a CPU's."""
    plan, kind = event.plan, kinds.load(event.plan.kind)
    sizes = {name: kind.size(split) for name, split in event.splits.items()}
    shares = ", ".join(f"{count(size)} {name}" for name, size in sizes.items() if size)
    on_cuda = plan.recipe.endswith(" on cuda")
    recipe = f"recipe: {plan.recipe}, as no preset is given; --help shows its settings\n" if on_cuda else ""
    budget = ", ".join(f"{value} {name}" for name, value in plan.train.budgets.items())
    return (
        f"text: {shares} {kind.unit}; {event.vocab_size} different tokens ({plan.data.tokenizer})\n"
        f"model: {plan.arch}, {count(event.params)} parameters, {count(event.multiply_adds)} multiply-adds per token, "
        f"on {event.where}; budget: {budget}\n"
        f"{recipe}run: {event.path}"
    )


def end_summary(event: events.Ended, chars_per_token: float) -> RenderableType:
    """The score of the model, in a table with those of simple methods, and the speed."""
    speed = count(event.tokens_per_second * chars_per_token)
    line = f"{event.steps} steps in {duration(event.seconds)}, {speed} chars/s"
    with err.status("seeing what simple methods reach") if err.is_terminal else nullcontext():
        baselines = event.baselines()
    if event.best and baselines is None:
        measure = event.best.measure
        best = f"{event.best.nats_per_token:.4f} nats per {measure.scored}, {value_and_figures(event.best)}"
        line = f"best at step {event.best_step}: {best}\n{line}"
    if event.best is None or baselines is None:
        return line
    rows = {**baselines.named(), f"this model (step {event.best_step})": event.best.value}
    scores = table("validation text", ">bits per byte")
    for name, bits in sorted(rows.items(), key=lambda item: -item[1]):
        style = "bold" if name.startswith("this") else ""
        scores.add_row(name, f"{bits:.3f}", style=style)
    ahead = baselines.ngram6 - event.best.value
    verdict = f"{abs(ahead):.3f} bits per byte {'better' if ahead > 0 else 'worse'} than counting 6-grams"
    nats = f"{event.best.nats_per_token:.4f} nats per token"
    return Group("", scores, "", f"{line}; {nats}; {verdict}")


def value_and_figures(score: Score) -> str:
    """The value of a score, and what else was measured."""
    return f"{score.value:.3f} {score.measure.unit}" + "".join(
        f", {name} {value:.3f}" for name, value in score.figures.items()
    )


def command_for(plan: Plan) -> str:
    """The command that uses such a run."""
    return plan.objective.command or kinds.load(plan.kind).command(archs.load(plan.arch))


def next_command(path: Path, plan: Plan) -> str:
    command = command_for(plan)
    return f"next: charlm {command} {in_shell(path)}{WANTED.get(command, '')}"
