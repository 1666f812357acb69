"""The trainings of a comparison while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from charlm.comparing.run import Comparison, Event, Planned
from charlm.comparing.worker import TrainingEnded, TrainingProgress
from charlm.events import Note
from charlm.views.console import err, note
from charlm.views.notebook import EVERY, Pane
from charlm.views.pictures import as_fragment


class Bars:
    """A bar per training on a terminal, with a line when one ends."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        task, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
        self.display = Progress(task, BarColumn(), state, console=err, transient=True, disable=not err.is_terminal)
        self.other = self.display.add_task("", total=None, state="")
        self.bars: dict[Path, TaskID] = {}

    def say(self, text: str) -> None:
        err.print(text, markup=False)

    def note(self, text: str) -> None:
        note(text)

    def show(self, event: Event) -> None:
        update = self.display.update
        if isinstance(event, Planned):
            update(self.other, visible=False)
            self.say("\n".join(plan_lines(event, self.jobs)))
            self.bars = {run: self.display.add_task(run.name, total=1.0, state="waiting") for run in event.plans}
            for run in event.done:
                update(self.bars[run], completed=1.0, state="done before")
        elif isinstance(event, TrainingProgress):
            score = f"{event.score.value:.3f} {event.score.measure.unit}" if event.score else ""
            update(self.bars[event.path], completed=event.progress, state=f"{event.progress:4.0%}  {score}")
        elif isinstance(event, TrainingEnded):
            outcome = f"failed: {event.failure}" if event.failure else "done"
            update(self.bars[event.path], completed=1.0, state=outcome[:60])
            self.say(f"{event.path.name}: {outcome}")
        elif isinstance(event, Note):
            self.note(event.text)
        else:
            update(self.other, description=event.what, completed=event.done, total=event.total, visible=True)


class Quiet(Bars):
    """Nothing."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self.display.disable = True

    def show(self, event: Event) -> None: ...


class NotebookBars(Bars):
    """The same in a cell, redrawn every second."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self.display.disable = True
        self.pane, self.lines, self.drawn = Pane(), list[str](), 0.0

    def say(self, text: str) -> None:
        self.lines.append(text)
        self.draw()

    note = say

    def show(self, event: Event) -> None:
        super().show(event)
        if time.monotonic() - self.drawn >= EVERY:
            self.draw()

    def draw(self) -> None:
        self.drawn = time.monotonic()
        bars = self.display.get_renderable()
        self.pane.show(as_fragment(Group(*map(Text, self.lines), bars)))


def watch_comparison(
    work: Generator[Event, None, Comparison], jobs: int, bars: Callable[[int], Bars] = Bars
) -> Comparison:
    """Run `work` to its end, and show how far it is. Returns the result."""
    shown = bars(jobs)
    planned: Planned | None = None
    live: AbstractContextManager[Any] = nullcontext() if shown.display.disable else shown.display
    with live:
        try:
            while True:
                event = next(work)
                planned = event if isinstance(event, Planned) else planned
                shown.show(event)
        except StopIteration as end:
            comparison: Comparison = end.value
            return comparison
        except KeyboardInterrupt:
            if planned:
                shown.say(f"\ninterrupted; {planned.path} keeps what was trained: the same again goes on")
            raise
        finally:
            work.close()


def plan_lines(event: Planned, jobs: int) -> list[str]:
    """How many trainings are to come, and for how long."""
    remaining = [plan for run, (_, plan) in event.plans.items() if run not in event.done]
    minutes = sum(plan.train.minutes or 0 for plan in remaining) / jobs
    time = f", about {minutes:g} minutes" if minutes else ""
    lines = [f"{len(remaining)} trainings to do{time}; {len(event.done)} done before; in {event.path}"]
    if event.sized:
        sizes = {who.label: plan.model.to_dict().get("hidden_size") for who, plan in event.plans.values()}
        lines.append("hidden sizes: " + ", ".join(f"{label} {size}" for label, size in sizes.items()))
    if jobs > 1:
        lines.append(f"{jobs} at once share the processor: speeds are of that")
    return lines
