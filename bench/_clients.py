"""Clients of a server, in a process of their own. Imports no torch."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any


class Client:
    """Asks one thing after the other, over one connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def ask(self, **body: Any) -> int:
        """The tokens of an answer, which is checked to be whole."""
        self.connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(data.decode())
        if not body.get("stream"):
            return int(json.loads(data)["usage"]["completion_tokens"])
        events = [event for event in data.split(b"\n\n") if event]
        if events[-1] != b"data: [DONE]":
            raise RuntimeError("a stream broke off")
        return int(json.loads(events[-2][6:])["usage"]["completion_tokens"])


def load(port: int, clients: int, seconds: float, body: dict[str, Any]) -> float:
    """Tokens per second of so many clients, each with one request after the other, for about so long."""
    Client(port).ask(**{**body, "max_tokens": 8})
    began = time.perf_counter()

    def client(_: int) -> int:
        asking, tokens = Client(port), 0
        while time.perf_counter() - began < seconds:
            tokens += asking.ask(**body)
        return tokens

    with ThreadPoolExecutor(clients) as pool:
        tokens = sum(pool.map(client, range(clients)))
    return tokens / (time.perf_counter() - began)


def many(port: int, requests: int, at_once: int) -> float:
    """The seconds that so many different requests take."""
    began, numbers = time.perf_counter(), count()

    def client(_: int) -> None:
        asking = Client(port)
        while (number := next(numbers)) < requests:
            length, streamed = 1 + number % 24, {"stream": True, "stream_options": {"include_usage": True}}
            more = streamed if number % 3 == 0 else {}
            if asking.ask(prompt="a" * (number % 9), max_tokens=length, seed=number, **more) != length:
                raise RuntimeError(f"request {number} was not answered whole")

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(client, range(at_once)))
    return time.perf_counter() - began
