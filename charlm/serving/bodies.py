"""The two ends of a request: its body, which may be anything, and a client that may go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive

from charlm.errors import CharlmError
from charlm.serving.engine import BusyError
from charlm.serving.fields import RefusedError

LARGEST = 4 << 20  # bytes of a body
PATIENCE = 30.0  # seconds in which a body must arrive

T = TypeVar("T")


class Json(JSONResponse):
    """In ASCII: a text may hold half a surrogate pair, which UTF-8 has no bytes for."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def refusal(error: CharlmError, param: str = "prompt") -> RefusedError:
    """What a client is told of an error."""
    if isinstance(error, BusyError):
        return RefusedError(str(error), status=429, code="busy", Retry_After=str(error.seconds))
    told = RefusedError.because(error)
    told.param = param if told.param in (None, "prompt") else told.param
    return told


async def body(request: Request) -> Any:
    """The JSON that a request has. Raises `RefusedError` for one that is too large, too slow, or none."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError("send JSON, with the header content-type: application/json", status=415)
    too_large = RefusedError(f"the body has more than {LARGEST:,} bytes", status=413, connection="close")
    if int(request.headers.get("content-length") or 0) > LARGEST:
        raise too_large
    data = bytearray()

    async def arrive() -> None:
        async for piece in request.stream():
            data.extend(piece)
            if len(data) > LARGEST:
                raise too_large

    try:
        await asyncio.wait_for(arrive(), PATIENCE)
        return json.loads(data)
    except (asyncio.TimeoutError, TimeoutError):
        raise RefusedError(f"the body did not arrive within {PATIENCE:g} s", status=408, connection="close") from None
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is no JSON: {error}") from None


async def gone(receive: Receive) -> None:
    """Returns when the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is cancelled if the client goes away. Raises `ClientDisconnect` then."""
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)
