"""One training in a process of its own: its memory is its own, and when it dies the others live."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from charlm.config import DataSettings
from charlm.errors import CharlmError
from charlm.plan import Plan
from charlm.runs.folder import is_run

EVERY = 0.2  # seconds between two words on how far it is


class Errand(NamedTuple):
    """A training to be done, or to be gone on with."""

    path: Path  # the run's folder
    plan: Plan
    texts: tuple[str, ...]
    cache_dir: Path | None
    threads: int


class Went(NamedTuple):
    """How far a training is."""

    path: Path
    progress: float
    bits_per_byte: float | None  # of its last validation


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
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                here, there = context.Pipe(duplex=False)
                errand = waiting.pop()
                process = context.Process(target=do, args=(errand, there), daemon=True)
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
        for worker in busy:
            worker.process.terminate()
        for worker in busy:
            worker.process.join()


def died(code: int | None) -> str:
    if code == -getattr(signal, "SIGKILL", 9):
        return "its process was killed, perhaps for want of memory; try a smaller --batch-size, or --jobs 1"
    return f"its process ended with code {code}"


def do(errand: Errand, pipe: Connection) -> None:
    """The whole life of the process."""
    import torch

    from charlm import job
    from charlm.events import Validated, Wishes
    from charlm.text.corpus import Corpus
    from charlm.training.loop import Step

    wishes = Wishes()

    def stop(*_: Any) -> None:
        wishes.stop = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt from the keyboard reaches all; our parent decides
    signal.signal(signal.SIGTERM, stop)
    torch.set_num_threads(errand.threads)
    data: DataSettings = errand.plan.data
    try:
        if is_run(errand.path):
            events = job.resume(errand.path, changes={}, cache_dir=errand.cache_dir, wishes=wishes)
        else:
            corpus = Corpus.open(errand.texts, data.encoding)
            events = job.train(errand.plan, corpus, out=errand.path, cache_dir=errand.cache_dir, wishes=wishes)
        said, bits = time.monotonic(), None
        for event in events:
            if isinstance(event, Validated):
                bits = event.score.bits_per_byte
            elif isinstance(event, Step) and (time.monotonic() - said > EVERY or event.progress == 1):
                said = time.monotonic()
                pipe.send(Went(errand.path, event.progress, bits))
        pipe.send(Returned(errand.path, ""))
    except CharlmError as error:
        pipe.send(Returned(errand.path, str(error)))
    except BrokenPipeError:  # our parent is gone; all but the last minute is saved
        os._exit(1)
