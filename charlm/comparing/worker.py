"""Trainings in processes of their own: memory is measured apart, and a crash does not end the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

from charlm import kinds
from charlm.errors import CharlmError
from charlm.plan import Plan
from charlm.runs.folder import is_run
from charlm.score import Score

REPORTED = 0.2  # seconds between two progress reports
PATIENCE = 60.0  # seconds for a training to save itself before its process is terminated


class Task(NamedTuple):
    """A training to begin, or to resume."""

    path: Path  # the run's folder
    plan: Plan
    texts: tuple[str, ...]
    targets: tuple[str, ...]  # of pairs, where they are in separate files
    cache_dir: Path | None
    threads: int
    origin: Path | None  # the run whose weights it starts from


class TrainingProgress(NamedTuple):
    path: Path
    progress: float  # share of the budget, in [0, 1]
    score: Score | None  # of its last validation


class TrainingEnded(NamedTuple):
    path: Path
    failure: str  # why it ended early; empty for success


@dataclass
class Worker:
    process: BaseProcess
    pipe: Any  # a Connection; on Windows a PipeConnection
    task: Task


def run_tasks(tasks: list[Task], jobs: int) -> Iterator[TrainingProgress | TrainingEnded]:
    """Run all tasks, `jobs` at a time. Closing the iterator stops the trainings that run, which save themselves."""
    context, waiting, busy = multiprocessing.get_context("spawn"), list(reversed(tasks)), list[Worker]()
    stop = context.Event()
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                receiver, sender = context.Pipe(duplex=False)
                task = waiting.pop()
                process = context.Process(target=run_task, args=(task, sender, stop), daemon=True)
                with ignore_interrupts():
                    process.start()
                sender.close()
                busy.append(Worker(process, receiver, task))
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(worker for worker in busy if worker.pipe is pipe)
                try:
                    message = worker.pipe.recv()
                except EOFError:
                    worker.process.join()
                    message = TrainingEnded(worker.task.path, exit_message(worker.process.exitcode))
                yield message
                if isinstance(message, TrainingEnded):
                    worker.process.join()
                    busy.remove(worker)
    finally:
        stop.set()
        for worker in busy:
            worker.process.join(PATIENCE)
            worker.process.terminate()  # if it did not end by itself
            worker.process.join()


def exit_message(code: int | None) -> str:
    """The failure of a process that ended without a word."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "its process was killed, perhaps for want of memory; try smaller batches, or --jobs 1"
    return f"its process ended with code {code}"


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Processes that are started within ignore Ctrl-C, which reaches all of them: their parent stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def run_task(task: Task, pipe: Connection, stop: Event) -> None:
    """What the process runs: train, and send progress and the end through `pipe`, until `stop` is set."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from charlm import job
    from charlm.events import Control, Ended, Validated
    from charlm.runs.origin import Origin
    from charlm.training.loop import Step

    control = Control()

    def terminate(*_: Any) -> None:
        control.stop = True

    signal.signal(signal.SIGTERM, terminate)
    torch.set_num_threads(task.threads)
    try:
        if is_run(task.path):
            events = job.resume(task.path, changes={}, cache_dir=task.cache_dir, control=control)
        else:
            corpus = kinds.load(task.plan.kind).open(task.texts, task.targets, task.plan.data.encoding)
            places: Any = {"out": task.path, "cache_dir": task.cache_dir}
            origin = Origin(task.origin) if task.origin else None
            events = job.train(task.plan, corpus, origin=origin, control=control, **places)
        reported, score, ended = time.monotonic(), None, False
        for event in events:
            control.stop = control.stop or stop.is_set()
            ended = isinstance(event, Ended)
            if isinstance(event, Validated):
                score = event.score
            elif isinstance(event, Step) and (time.monotonic() - reported > REPORTED or event.progress == 1):
                reported = time.monotonic()
                pipe.send(TrainingProgress(task.path, event.progress, score))
        pipe.send(TrainingEnded(task.path, "" if ended else "it was stopped; the same command goes on with it"))
    except CharlmError as error:
        pipe.send(TrainingEnded(task.path, str(error)))
    except torch.OutOfMemoryError:
        pipe.send(TrainingEnded(task.path, "the GPU's memory is full; try smaller batches, or --jobs 1"))
    except BrokenPipeError:  # the parent is gone; the last checkpoint stays
        os._exit(1)
