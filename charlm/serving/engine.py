"""Continuous batching: the requests to a model are written together, and each begins and ends when it likes.

Between two tokens the engine drops rows that nobody waits for any longer, reads some more of the prompts that are new,
and gives their rows a place; then all rows make a step as one. A row has its own settings and its own noise, so its
text depends on its request alone (Yu et al. 2022, Orca, OSDI, section 3.2).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from charlm.errors import CharlmError
from charlm.sampling.settings import Request
from charlm.serving.rows import Part, Row, choose, likelihoods
from charlm.serving.worker import Worker
from charlm.states import State
from charlm.writer import Writer

ROWS = 16  # that are written at once
PIECE = 64  # tokens of a prompt that are read at once
READING = 0.005  # seconds for which prompts are read, between two tokens
EVERY = 0.04  # seconds between two parts of a text, at least: a reader sees no difference

Deliver = Callable[[list[Part] | Exception], None]


class BusyError(CharlmError):
    """More requests wait than may. `seconds` says when it may be worth to try again."""

    def __init__(self, waiting: int, seconds: int) -> None:
        super().__init__(f"{waiting} requests are waiting already; try again in {seconds} s")
        self.seconds = seconds


class Job:
    """A request to an engine. Whoever no longer wants it calls `cancel`."""

    def __init__(self, rows: list[Row], deliver: Deliver, *, live: bool) -> None:
        self.rows, self.deliver, self.live = rows, deliver, live
        self.unplaced = list(rows)  # that have no place yet
        self.unfinished = len(rows)
        self.cancelled, self.began, self.flushed = False, 0.0, 0.0
        self.states: Iterator[State] | None = None  # of the prompt, as far as it is read
        self.state: State = None  # after the prompt

    def cancel(self) -> None:
        self.cancelled = True


class Engine:
    """Writes for one model, in a worker's turns."""

    def __init__(self, writer: Writer, worker: Worker, *, waiting: int = 64) -> None:
        """`waiting` requests wait at most, beside those that are being written. Raises `SettingsError` for a run that
        cannot continue a text."""
        writer.check_can_continue()
        self.writer, self.model, self.worker, self.most_waiting = writer, writer.model, worker, waiting
        self.step = self.model.row_stepper(ROWS)
        self.waiting: deque[Job] = deque()
        self.entering: deque[Job] = deque()  # whose prompts are being read, or whose rows wait for a place
        self.rows: list[tuple[Row, Job]] = []  # by their place in the stepper
        self.seconds = 0.0  # that a request takes, from being read to its end
        self.at_work, self.lock = False, threading.Lock()

    def submit(self, request: Request, deliver: Deliver, *, top: int | None = None, live: bool = False) -> Job:
        """Write `request`, whose length is 1 or more, and `deliver` its parts in the worker's thread: while they are
        written if it is `live`, else each row's when it is finished. What goes wrong is delivered, too.

        With `top` the parts have logprobs, and those of so many other tokens. Raises `BusyError` if too many requests
        wait, and as `Writer.pieces` does.
        """
        assert request.length > 0, "an endless text is for charlm sample"
        request = replace(request, seed=request.chosen_seed())
        prompt = self.writer.prompt_ids(request)[0].tolist()
        rows = [Row(request, number, prompt, self.writer.tokenizer, top) for number in range(request.samples)]
        job = Job(rows, deliver, live=live)
        with self.lock:
            if len(self.waiting) >= self.most_waiting:
                pause = max(1, math.ceil(self.seconds * len(self.waiting) / ROWS))
                raise BusyError(len(self.waiting), pause)
            self.waiting.append(job)
            if not self.at_work:
                self.at_work = True
                self.worker.begin(self.turns())
        return job

    @torch.inference_mode()
    def turns(self) -> Iterator[None]:
        """A token of each row in every turn, until nobody waits for a text."""
        while self.admit():
            try:
                self.enter()
                if self.rows:
                    self.advance()
            except Exception as error:  # those it concerns hear of it, and the next are written
                for job in {job for _, job in self.rows}:
                    job.cancel()
                    job.deliver(error)
            yield

    def admit(self) -> bool:
        """Let in as many requests as have room. Whether anything is to be done."""
        with self.lock:
            self.drop_cancelled()
            while self.waiting and len(self.entering) + len(self.rows) < ROWS:
                self.entering.append(self.waiting.popleft())
            self.at_work = bool(self.entering or self.rows)
            return self.at_work

    def drop_cancelled(self) -> None:
        for jobs in (self.waiting, self.entering):
            kept = [job for job in jobs if not job.cancelled]
            jobs.clear()
            jobs.extend(kept)
        for place in reversed(range(len(self.rows))):
            if self.rows[place][1].cancelled:
                self.leave(place)

    def enter(self) -> None:
        """Read prompts, a piece of each in turn, and give rows a place, for as long as others may wait."""
        began, unlucky = time.perf_counter(), 0
        while self.entering and unlucky < len(self.entering):
            job = self.entering.popleft()
            try:
                moved = self.read(job)
            except Exception as error:
                job.deliver(error)
                continue
            if job.unplaced:
                self.entering.append(job)
            unlucky = 0 if moved else unlucky + 1
            if time.perf_counter() - began > READING:
                return

    def read(self, job: Job) -> bool:
        """Read a piece of a job's prompt, or place its rows. Whether that was possible."""
        if job.states is None:
            text = torch.tensor([job.rows[0].prompt[:-1]], dtype=torch.long, device=self.writer.device)
            job.states, job.began = self.model.reading(text, PIECE), time.perf_counter()
        state = next(job.states, None)
        if state is not None:
            job.state = state
            return True
        placed = job.unplaced[: ROWS - len(self.rows)]
        del job.unplaced[: len(placed)]
        for row in placed:
            self.step.put(len(self.rows), job.state)
            self.rows.append((row, job))
        return bool(placed)

    def advance(self) -> None:
        """A step of all rows."""
        rows = [row for row, _ in self.rows]
        logits = self.step(torch.tensor([row.token for row in rows], device=self.writer.device))
        ids = choose(rows, logits)
        known: dict[int, Any] = likelihoods(rows, logits, ids)
        for place, (row, id) in enumerate(zip(rows, ids, strict=True)):
            row.add(id, *known.get(place, ()))
        self.hand_out()

    def hand_out(self) -> None:
        """Deliver what is due, and let finished rows leave."""
        now, parts = time.perf_counter(), dict[Job, list[Part]]()
        for place in reversed(range(len(self.rows))):
            row, job = self.rows[place]
            if row.finish or (job.live and now - job.flushed > EVERY):
                parts.setdefault(job, []).append(row.part())
            if row.finish:
                job.unfinished -= 1
                self.leave(place)
        for job, some in parts.items():
            job.flushed = now
            if not job.unfinished:
                self.seconds += (now - job.began - self.seconds) / 8
            job.deliver(some)

    def leave(self, place: int) -> None:
        """The last row takes the place of one that leaves."""
        last = self.rows.pop()
        if place < len(self.rows):
            self.step.move(len(self.rows), place)
            self.rows[place] = last
