"""The server: it listens, answers until a signal, finishes what it has begun, and ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from charlm.errors import SettingsError
from charlm.serving.gate import Gate

GRACE = 60  # seconds in which what was begun must end after a signal


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. Raises `SettingsError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise SettingsError(f"--host {host} is no address of this machine: {error.strerror}", field="host") from None
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks for it: TCP_NODELAY
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise SettingsError(
            f"--port {port} of {host} cannot be used: {error.strerror}; give another --port, or 0 for any that is free",
            field="port",
        ) from None
    return made


class Server(uvicorn.Server):
    """The first signal closes the gate, and the server ends when all that is inside has left; a second one ends it."""

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=5)
        super().__init__(config)
        self.gate: Gate = app.state.gate
        self.ticks = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        if self.gate.closed:
            self.should_exit = self.force_exit = True
        self.gate.closed = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self.gate.closed:
            self.ticks += 1
            self.should_exit = self.should_exit or not self.gate.inside or self.ticks > 10 * GRACE
        return await super().on_tick(counter)


@contextmanager
def answering(app: Starlette) -> Iterator[int]:
    """Answer requests meanwhile, in a thread, at a port that is free: its number."""
    with listen("127.0.0.1", 0) as listening:
        server = Server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.gate.closed = server.should_exit = True
            thread.join()


def serve(app: Starlette, listening: socket.socket) -> None:
    """Answer requests until the process gets SIGINT or SIGTERM, and what was begun is finished."""
    Server(app).run(sockets=[listening])
