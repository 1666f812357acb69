"""Serving: tokens per second of a server's clients, 1, 3 and 16 at once, with random weights.

    python -m bench serve [--stress N] [--json FILE]

Clients are a process of their own. The peer is `generate` of transformers (extra `bench`) behind the same HTTP server,
a request at a time. `--stress N` instead sends N requests to a small model, 64 at once, five times, and shows the
memory that the server holds after each (Linux).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench._clients import load, many
from bench._table import Row, machine, parser, show
from bench.write import TRANSFORMER, build, transformers_writer
from charlm.serving.app import app
from charlm.serving.gate import Gate
from charlm.serving.served import Served
from charlm.serving.server import answering
from charlm.serving.worker import Worker
from charlm.text.tokenizers import CharTokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

LETTERS = CharTokenizer([10, *range(59, 123)], spell=False)  # 65, as those of SPEC
MODELS: dict[str, dict[str, Any]] = {"lstm 1 x 384": {"arch": "lstm"}, "transformer 6 x 384": TRANSFORMER}
TOKENS, SECONDS = 200, 2.5  # of a request, and of a measurement


@contextmanager
def charlm(**settings: Any) -> Iterator[int]:
    """The port of a server of a model."""
    with Worker() as worker:

        def opened() -> Served:
            return Served("bench", Writer(build(**settings), Vocabularies(LETTERS, LETTERS)), worker, waiting=100)

        served = worker.result(opened)
        served.warm_up()
        with answering(app([served])) as port:
            yield port


def peer(thread: ThreadPoolExecutor) -> Starlette | None:
    """transformers' `generate` behind the same server; all of it is computed in this one thread."""
    write = thread.submit(transformers_writer).result()
    if write is None:
        return None

    async def complete(request: Request) -> Response:
        tokens = (await request.json())["max_tokens"]
        await asyncio.get_running_loop().run_in_executor(thread, write, 1, True, tokens)
        return JSONResponse({"usage": {"completion_tokens": tokens}})

    made = Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])])
    made.state.gate = Gate()
    return made


def speeds(clients: ProcessPoolExecutor) -> Iterator[Row]:
    asked = {"prompt": "a", "max_tokens": TOKENS, "temperature": 0.8}
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    for what, settings in MODELS.items():
        with charlm(**settings) as port:
            for name, body in ((what, asked), (f"{what}, streamed", streamed)):
                one = 0.0
                for number in (1, 3, 16):
                    speed = clients.submit(load, port, number, SECONDS, body).result()
                    one = one or speed
                    yield {"what": name, "clients": number, "tokens/s": speed, "of one": speed / one}
    with ThreadPoolExecutor(1) as thread:
        if not (other := peer(thread)):
            return
        with answering(other) as port:
            for number in (1, 16):
                speed = clients.submit(load, port, number, SECONDS, asked).result()
                yield {"what": "transformers generate, 6 x 384", "clients": number, "tokens/s": speed}


def memory() -> float:
    """Megabytes that this process holds."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def stress(clients: ProcessPoolExecutor, requests: int) -> Iterator[Row]:
    with charlm(arch="lstm", hidden_size=64) as port:
        yield {"requests": 0, "MB": memory(), "threads": threading.active_count()}
        for number in range(1, 6):
            seconds = clients.submit(many, port, requests, 64).result()
            row = {"requests": number * requests, "per second": requests / seconds, "MB": memory()}
            yield {**row, "threads": threading.active_count()}


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("--stress", type=int, metavar="N", help="so many requests, five times, and the memory held")
    args = options.parse_args(argv)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as clients:
        clients.submit(int).result()  # it is there before anything is measured
        if args.stress:
            columns, rows = ["requests", "per second", "MB", "threads"], stress(clients, args.stress)
        else:
            columns, rows = ["what", "clients", "tokens/s", "of one"], speeds(clients)
        show(rows, columns, args.json, title=machine())
