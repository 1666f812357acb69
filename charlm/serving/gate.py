"""Who may come in: clients with a key, by a name of this server, and none once it is to end."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from charlm.serving.bodies import Json
from charlm.serving.fields import RefusedError

LOCAL = ("127.0.0.1", "localhost", "::1")  # what a server is called on its own machine


class Gate:
    """Counts the requests that are being answered."""

    def __init__(self, keys: Collection[str] = (), hosts: Collection[str] = ()) -> None:
        """Without `keys` any will do, and none. Clients must call the server by a name in `hosts`, or by any if there
        are none: a page that makes its own name lead to this machine (DNS rebinding) calls it by that one."""
        self.keys, self.hosts = [key.encode() for key in keys], hosts
        self.inside = 0
        self.closed = False

    def around(self, app: ASGIApp) -> ASGIApp:
        """The same application behind this gate."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            if refused := self.refusal(scope):
                answer = Json(refused.to_json(), refused.status, headers=refused.headers)
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
        headers = dict(scope["headers"])
        if self.hosts and (host := host_of(headers.get(b"host", b""))) not in ("", *self.hosts):
            words = (
                f"this server is {' or '.join(self.hosts)}, and no {host:.100}; start it with --host for other names"
            )
            return RefusedError(words, status=421, code="unknown_host")
        if not self.keys or scope["path"] == "/healthz":
            return None
        given = headers.get(b"authorization", b"")
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


def host_of(header: bytes) -> str:
    """The name in a Host header, without its port and the brackets of an IPv6 address."""
    name = header.decode("latin-1").lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
