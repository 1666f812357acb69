"""The interface over HTTP: OpenAI's completions, chats and models, and scores. `app` makes it for some runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from charlm.errors import CharlmError
from charlm.serving import fields
from charlm.serving.answering import answered
from charlm.serving.answers import Answer, Chat, Completion
from charlm.serving.bodies import Json, body, refusal, unless_gone
from charlm.serving.fields import Asked, RefusedError
from charlm.serving.gate import LOCAL, Gate
from charlm.serving.scores import score
from charlm.serving.served import Served

PER = ("text", "character", "token")

Endpoint = Callable[[Request], Awaitable[Response]]


class Endpoints:
    """What is answered about some runs, of which the first is the default."""

    def __init__(self, models: Sequence[Served]) -> None:
        self.models = {model.name: model for model in models}

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", healthz),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.show_model),
            Route("/v1/completions", self.writes(fields.completion, Completion), methods=["POST"]),
            Route("/v1/chat/completions", self.writes(fields.chat, Chat), methods=["POST"]),
            Route("/v1/score", self.score, methods=["POST"]),
        ]

    def model(self, name: str | None) -> Served:
        """The run of this name. Raises `RefusedError`."""
        if name is None and self.models:
            return next(iter(self.models.values()))
        if name not in self.models:
            known = ", ".join(self.models) or "none that continues a text"
            words = f"there is no model {name!r}; there are {known}"
            raise RefusedError(words, status=404, param="model", code="model_not_found")
        return self.models[name]

    async def list_models(self, _: Request) -> Response:
        return Json({"object": "list", "data": [model.to_json() for model in self.models.values()]})

    async def show_model(self, request: Request) -> Response:
        return Json(self.model(request.path_params["name"]).to_json())

    def writes(self, read: Callable[[Any], Asked], shape: type[Answer]) -> Endpoint:
        """An endpoint that writes what `read` makes of a body, and answers in this shape."""

        async def endpoint(request: Request) -> Response:
            wanted = read(await body(request))
            return await answered(request, self.model(wanted.model), wanted, shape)

        return endpoint

    async def score(self, request: Request) -> Response:
        given = fields.known(await body(request), fields.SCORE)
        text = fields.typed(given, "text", str, "", "a text")
        per = given.get("per", "text")
        if per not in PER:
            raise RefusedError(f"per must be one of {', '.join(PER)}, got {per!r:.100}", param="per")
        model = self.model(fields.typed(given, "model", str, None, "the name of a model"))
        try:
            scored = await unless_gone(request, model.scorer.result(score(model.writer, text, per)))
        except CharlmError as error:
            raise refusal(error, "text") from None
        return Json({"object": "score", "model": model.name, "window": model.writer.model.window, **scored})


async def healthz(_: Request) -> Response:
    return Json({"status": "ok"})


def app(
    models: Sequence[Served],
    *,
    keys: Collection[str] = (),
    cors: Sequence[str] = (),
    hosts: Collection[str] = LOCAL,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application that serves these runs, of which the first is the default.

    With `keys` every request to `/v1` must have one of them; pages of the origins in `cors` may call it, and clients
    that call it by a name in `hosts` (empty: by any). Further `routes` come before its own. `app.state.gate` counts
    requests, and closes.
    """
    gate = Gate(keys, hosts)
    made = Starlette(
        routes=[*routes, *Endpoints(models).routes()],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["Retry-After"],
            ),
            Middleware(gate.around),
        ],
        exception_handlers={
            RefusedError: refuse,
            HTTPException: refuse_path,
            ClientDisconnect: nobody,
            Exception: apologise,
        },
    )
    made.state.gate = gate
    return made


async def refuse(_: Request, error: Any) -> Response:
    return Json(error.to_json(), error.status, headers=error.headers)


async def refuse_path(request: Request, error: Any) -> Response:
    """No such path, or not with this method."""
    words = f"{request.method} {request.url.path}: {error.detail}; see /v1/models, /v1/completions, /v1/score"
    return Json(RefusedError(words, status=error.status_code).to_json(), error.status_code, error.headers)


async def nobody(_request: Request, _error: Any) -> Response:
    """The client has gone: what is said now reaches nobody."""
    return Response(status_code=499)


async def apologise(_: Request, error: Any) -> Response:
    """A bug; its traceback goes to standard error."""
    words = RefusedError(f"this should not have happened: {type(error).__name__}", status=500)
    return Json(words.to_json(), 500)
