"""The interface over HTTP: OpenAI's completions, chats and models, and scores. `app` makes it for some runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from charlm.errors import CharlmError
from charlm.serving import fields
from charlm.serving.answering import answered
from charlm.serving.answers import Answer, Chat, Completion
from charlm.serving.bodies import body, refusal, unless_gone
from charlm.serving.fields import Asked, RefusedError
from charlm.serving.gate import LOCAL, Gate
from charlm.serving.scores import score
from charlm.serving.served import Served

PER = ("text", "character", "token")

Endpoint = Callable[[Request], Awaitable[Response]]


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
    served = {model.name: model for model in models}

    def pick(name: str | None) -> Served:
        if name is None and models:
            return models[0]
        if name not in served:
            known = ", ".join(served) or "none that continues a text"
            raise RefusedError(
                f"there is no model {name!r}; there are {known}", status=404, param="model", code="model_not_found"
            )
        return served[name]

    async def list_models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model.to_json() for model in models]})

    async def show_model(request: Request) -> Response:
        return JSONResponse(pick(request.path_params["name"]).to_json())

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def writes(read: Callable[[Any], Asked], shape: type[Answer]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            wanted = read(await body(request))
            return await answered(request, pick(wanted.model), wanted, shape)

        return endpoint

    async def scores(request: Request) -> Response:
        given = fields.known(await body(request), fields.SCORE)
        text = fields.typed(given, "text", str, "", "a text")
        per = given.get("per", "text")
        if per not in PER:
            raise RefusedError(f"per must be one of {', '.join(PER)}, got {per!r:.100}", param="per")
        model = pick(fields.typed(given, "model", str, None, "the name of a model"))
        try:
            found = await unless_gone(request, model.scorer.result(score(model.writer, text, per)))
        except CharlmError as error:
            raise refusal(error, "text") from None
        return JSONResponse({"object": "score", "model": model.name, "window": model.writer.model.window, **found})

    gate = Gate(keys, hosts)
    made = Starlette(
        routes=[
            *routes,
            Route("/healthz", healthz),
            Route("/v1/models", list_models),
            Route("/v1/models/{name:path}", show_model),
            Route("/v1/completions", writes(fields.completion, Completion), methods=["POST"]),
            Route("/v1/chat/completions", writes(fields.chat, Chat), methods=["POST"]),
            Route("/v1/score", scores, methods=["POST"]),
        ],
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
    return JSONResponse(error.to_json(), error.status, headers=error.headers)


async def refuse_path(request: Request, error: Any) -> Response:
    """No such path, or not with this method."""
    words = f"{request.method} {request.url.path}: {error.detail}; see /v1/models, /v1/completions, /v1/score"
    return JSONResponse(RefusedError(words, status=error.status_code).to_json(), error.status_code, error.headers)


async def nobody(_request: Request, _error: Any) -> Response:
    """The client has gone: what is said now reaches nobody."""
    return Response(status_code=499)


async def apologise(_: Request, error: Any) -> Response:
    """A bug; its traceback goes to standard error."""
    words = RefusedError(f"this should not have happened: {type(error).__name__}", status=500)
    return JSONResponse(words.to_json(), 500)
