"""A server in this process, on a port of its own, and clients of it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from openai import OpenAI

from charlm.serving.app import app
from charlm.serving.served import Served
from charlm.serving.server import answering
from charlm.serving.worker import Worker
from charlm.writer import Writer


class Running:
    """A server, and how to speak to it."""

    def __init__(self, models: list[Served], port: int) -> None:
        self.models, self.port = models, port

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def client(self, key: str = "any") -> Iterator[OpenAI]:
        with OpenAI(base_url=f"{self.address}/v1", api_key=key, max_retries=0, timeout=30) as client:
            yield client

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as made:
            yield made

    def raw(self, *sent: bytes) -> bytes:
        """What comes back for some bytes, until the server closes."""
        with self.connection() as made:
            for part in sent:
                made.sendall(part)
            return everything(made)

    def raw_post(self, path: str, body: Any) -> bytes:
        return self.raw(message("POST", path, body))

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers by their small names, and JSON."""
        return parsed(self.raw(message("POST", path, body, **headers)))

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        return parsed(self.raw(message("GET", path, None, **headers)))


def message(method: str, path: str, body: Any, **headers: str) -> bytes:
    """A request; a `body` that is no bytes goes as JSON."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {
        "host": "localhost",
        "connection": "close",
        "content-type": "application/json",
        "content-length": str(len(data)),
    }
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode() + data


def everything(made: socket.socket) -> bytes:
    got = b""
    while part := made.recv(1 << 16):
        got += part
    return got


def parsed(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body) if body[:1] in b"{[" and body else body


@contextmanager
def running(*writers: Writer, waiting: int = 64, **options: Any) -> Iterator[Running]:
    """A server of these runs, called a, b, …; `options` are those of `app`."""
    with Worker() as worker:
        models = [Served(name, writer, worker, waiting=waiting) for name, writer in zip("abc", writers, strict=False)]
        with answering(app(models, **options)) as port:
            yield Running(models, port)


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Returns when something has become true, which it must."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
