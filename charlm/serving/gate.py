"""Who may come in: clients with a key, and none once the server is to end."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from charlm.serving.fields import RefusedError


class Gate:
    """Counts the requests that are being answered."""

    def __init__(self, keys: Collection[str]) -> None:
        """Without `keys` any will do, and none."""
        self.keys = [key.encode() for key in keys]
        self.inside = 0
        self.closed = False

    def around(self, app: ASGIApp) -> ASGIApp:
        """The same application behind this gate."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            if refused := self.refusal(scope):
                answer = JSONResponse(refused.to_json(), refused.status, headers=refused.headers)
                return await answer(scope, receive, send)
            self.inside += 1
            try:
                await app(scope, receive, send)
            finally:
                self.inside -= 1

        return guarded

    def refusal(self, scope: Scope) -> RefusedError | None:
        if self.closed:
            return RefusedError("the server is about to end", status=503, Retry_After="5", connection="close")
        if not self.keys or scope["path"] == "/healthz":
            return None
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, key = given.partition(b" ")
        if kind.lower() == b"bearer" and self.known(key.strip()):
            return None
        return RefusedError(
            "no key that is known here came with the request; send the header authorization: Bearer KEY",
            status=401,
            code="invalid_api_key",
            WWW_Authenticate="Bearer",
        )

    def known(self, key: bytes) -> bool:
        """Whether it is one of the keys; how long that takes says nothing of them."""
        return sum(hmac.compare_digest(key, one) for one in self.keys) > 0
