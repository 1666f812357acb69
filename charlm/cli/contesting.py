"""The course of `charlm compare`: what is to be trained, a bar per training, a line when one ends."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from charlm.cli.console import err, note

if TYPE_CHECKING:
    from charlm.compare.run import Comparison, Event, Planned


def show_progress(work: Generator[Event, None, Comparison], jobs: int) -> Comparison:
    """Run `work` to its end: on a terminal with a bar per training, with a line when one ends. Returns the result."""
    from charlm.compare.run import Planned
    from charlm.compare.worker import TrainingEnded, TrainingProgress
    from charlm.events import Note

    task, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
    columns = (task, BarColumn(), state)
    bars: dict[Path, TaskID] = {}
    planned: Planned | None = None
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as display:
        other = display.add_task("", total=None, state="")
        try:
            while True:
                event = next(work)
                if isinstance(event, Planned):
                    planned = event
                    display.update(other, visible=False)
                    print_plan(event, jobs)
                    bars = {run: display.add_task(run.name, total=1.0, state="waiting") for run in event.plans}
                    for run in event.done:
                        display.update(bars[run], completed=1.0, state="done before")
                elif isinstance(event, TrainingProgress):
                    score = f"{event.score.value:.3f} {event.score.measure.unit}" if event.score else ""
                    progress = event.progress
                    display.update(bars[event.path], completed=progress, state=f"{progress:4.0%}  {score}")
                elif isinstance(event, TrainingEnded):
                    outcome = f"failed: {event.failure}" if event.failure else "done"
                    display.update(bars[event.path], completed=1.0, state=outcome[:60])
                    err.print(f"{event.path.name}: {outcome}", markup=False)
                elif isinstance(event, Note):
                    note(event.text)
                else:
                    display.update(other, description=event.what, completed=event.done, total=event.total, visible=True)
        except StopIteration as end:
            comparison: Comparison = end.value
            return comparison
        except KeyboardInterrupt:
            if planned:
                err.print(
                    f"\ninterrupted; {planned.path} keeps what was trained: the same command goes on", markup=False
                )
            raise
        finally:
            work.close()


def print_plan(event: Planned, jobs: int) -> None:
    """Say how many trainings are to come, and for how long."""
    remaining = [plan for run, (_, plan) in event.plans.items() if run not in event.done]
    minutes = sum(plan.train.minutes or 0 for plan in remaining) / jobs
    time = f", about {minutes:g} minutes" if minutes else ""
    err.print(f"{len(remaining)} trainings to do{time}; {len(event.done)} done before; in {event.path}", markup=False)
    if event.sized:
        sizes = {who.label: plan.model.to_dict().get("hidden_size") for who, plan in event.plans.values()}
        err.print("hidden sizes: " + ", ".join(f"{label} {size}" for label, size in sizes.items()), markup=False)
    if jobs > 1:
        err.print(f"{jobs} at once share the processor: speeds are of that", markup=False)
