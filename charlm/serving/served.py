"""A run that is served: its writer, the engine that writes, and the scorer that reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from charlm.model import parameter_count
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.sampling.settings import Request
from charlm.serving.engine import Engine, Job
from charlm.serving.rows import Part
from charlm.serving.scorer import Scorer
from charlm.serving.worker import Worker
from charlm.writer import Writer


class Numbered(NamedTuple):
    """A part of a text, and the number of the request that it is of."""

    request: int
    part: Part


Writing = AsyncGenerator[list[Numbered], None]


def about_run(path: Path) -> dict[str, Any]:
    """What lists of models say of a run."""
    info = folder.info(path)
    score = {} if info.best is None else {info.best.measure.name: info.best.value}
    return {"created": int((path / "config.json").stat().st_mtime), "arch": info.config["arch"], **score}


class Served:
    """Raises `SettingsError` for a run that cannot continue a text."""

    def __init__(
        self, name: str, writer: Writer, worker: Worker, *, waiting: int = 64, about: dict[str, Any] | None = None
    ) -> None:
        """`waiting` requests wait at most, beside those that are at work; `about` is said of the run in lists."""
        self.name, self.writer, self.most_waiting = name, writer, waiting
        self.engine = Engine(writer, worker, waiting=waiting)
        self.scorer = Scorer(worker, waiting=waiting)
        self.about = about or {}

    @classmethod
    def open(cls, path: Path, name: str, opening: Opening, worker: Worker, *, waiting: int = 64) -> Served:
        """The run in a folder, read in the worker's thread."""
        about = about_run(path)
        return worker.result(lambda: cls(name, Writer.load(path, opening), worker, waiting=waiting, about=about))

    def to_json(self) -> dict[str, Any]:
        """As OpenAI lists models, and more."""
        tokenizer = self.writer.tokenizer
        known = {"id": self.name, "object": "model", "created": 0, "owned_by": "charlm"}
        sizes = {"window": self.writer.model.window, "parameters": parameter_count(self.writer.model)}
        return {**known, **sizes, "tokenizer": tokenizer.kind, "vocab_size": tokenizer.vocab_size, **self.about}

    def warm_up(self) -> None:
        """Write a token, so that the first request finds all ready. Raises what goes wrong."""
        given = SimpleQueue[list[Part] | Exception]()
        self.engine.submit(Request(length=2, seed=0), given.put)
        if isinstance(error := given.get(), Exception):
            raise error

    async def writing(self, requests: Sequence[Request], *, top: int | None, live: bool) -> Writing:
        """Parts of what is written for each request, as they come; when this is closed, so is the work.

        Raises as `Engine.submit` does, and whatever went wrong in the engine.
        """
        loop, inbox = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Any]]()

        def deliver(number: int) -> Callable[[list[Part] | Exception], None]:
            def arrived(given: list[Part] | Exception) -> None:
                with suppress(RuntimeError):  # the loop is closed: nobody listens
                    loop.call_soon_threadsafe(inbox.put_nowait, (number, given))

            return arrived

        jobs: list[Job] = []
        try:
            for number, request in enumerate(requests):
                jobs.append(self.engine.submit(request, deliver(number), top=top, live=live))
            unfinished = sum(request.samples for request in requests)
            while unfinished:
                number, given = await inbox.get()
                if isinstance(given, Exception):
                    raise given
                unfinished -= sum(bool(part.finish) for part in given)
                yield [Numbered(number, part) for part in given]
        finally:
            for job in jobs:
                job.cancel()
