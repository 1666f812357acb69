"""One training in a process of its own: its memory is its own, and when it dies the others live."""

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

EVERY = 0.2  # seconds between two words on how far it is
PATIENCE = 60.0  # seconds in which a training that is to stop must have saved itself


class Errand(NamedTuple):
    """A training to be done, or to be gone on with."""

    path: Path  # the run's folder
    plan: Plan
    texts: tuple[str, ...]
    targets: tuple[str, ...]  # where they stand in files of their own
    cache_dir: Path | None
    threads: int


class Went(NamedTuple):
    """How far a training is."""

    path: Path
    progress: float
    score: Score | None  # of its last validation


class Returned(NamedTuple):
    path: Path
    failure: str  # why it ended early; empty if it did not


@dataclass
class Worker:
    process: BaseProcess
    pipe: Connection
    errand: Errand


def work_off(errands: list[Errand], jobs: int) -> Iterator[Went | Returned]:
    """Do all errands, `jobs` at a time. Whoever stops iterating stops those under way, which save themselves."""
    context, waiting, busy = multiprocessing.get_context("spawn"), list(reversed(errands)), list[Worker]()
    enough = context.Event()
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                here, there = context.Pipe(duplex=False)
                errand = waiting.pop()
                process = context.Process(target=do, args=(errand, there, enough), daemon=True)
                with unheeding():
                    process.start()
                there.close()
                busy.append(Worker(process, here, errand))
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(worker for worker in busy if worker.pipe is pipe)
                try:
                    said = worker.pipe.recv()
                except EOFError:
                    worker.process.join()
                    said = Returned(worker.errand.path, died(worker.process.exitcode))
                yield said
                if isinstance(said, Returned):
                    worker.process.join()
                    busy.remove(worker)
    finally:
        enough.set()
        for worker in busy:
            worker.process.join(PATIENCE)
            worker.process.terminate()  # if it did not end by itself
            worker.process.join()


def died(code: int | None) -> str:
    if code == -getattr(signal, "SIGKILL", 9):
        return "its process was killed, perhaps for want of memory; try smaller batches, or --jobs 1"
    return f"its process ended with code {code}"


@contextmanager
def unheeding() -> Iterator[None]:
    """An interrupt from the keyboard reaches all processes; those that start here leave it to their parent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def do(errand: Errand, pipe: Connection, enough: Event) -> None:
    """The whole life of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from charlm import job
    from charlm.events import Control, Ended, Validated
    from charlm.training.loop import Step

    control = Control()

    def stop(*_: Any) -> None:
        control.stop = True

    signal.signal(signal.SIGTERM, stop)
    torch.set_num_threads(errand.threads)
    try:
        if is_run(errand.path):
            events = job.resume(errand.path, changes={}, cache_dir=errand.cache_dir, control=control)
        else:
            corpus = kinds.load(errand.plan.kind).open(errand.texts, errand.targets, errand.plan.data.encoding)
            events = job.train(errand.plan, corpus, out=errand.path, cache_dir=errand.cache_dir, control=control)
        said, score, ended = time.monotonic(), None, False
        for event in events:
            control.stop = control.stop or enough.is_set()
            ended = isinstance(event, Ended)
            if isinstance(event, Validated):
                score = event.score
            elif isinstance(event, Step) and (time.monotonic() - said > EVERY or event.progress == 1):
                said = time.monotonic()
                pipe.send(Went(errand.path, event.progress, score))
        pipe.send(Returned(errand.path, "" if ended else "it was stopped; the same command goes on with it"))
    except CharlmError as error:
        pipe.send(Returned(errand.path, str(error)))
    except torch.OutOfMemoryError:
        pipe.send(Returned(errand.path, "the GPU's memory is full; try smaller batches, or --jobs 1"))
    except BrokenPipeError:  # our parent is gone; all but the last minute is saved
        os._exit(1)
