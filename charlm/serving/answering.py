"""From a request that was understood to its answer, whole or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from charlm.errors import CharlmError
from charlm.serving.answers import Answer
from charlm.serving.bodies import Json, gone, refusal, unless_gone
from charlm.serving.fields import Asked, RefusedError
from charlm.serving.rows import Likelihood
from charlm.serving.scores import prompt_likelihoods
from charlm.serving.served import Served
from charlm.writer import unknown_hint


class Written(NamedTuple):
    """Some of the text of a choice."""

    choice: int
    text: str
    tokens: list[Likelihood]
    tokens_written: int = 0
    finish: str = ""


Parts = AsyncGenerator[list[Written], None]
Chunks = AsyncGenerator[dict[str, Any], None]


async def parts(model: Served, wanted: Asked, prompts: list[list[int]]) -> Parts:
    """What the choices consist of, as it comes; `prompts` are ids. Raises as `Served.writing` does."""
    rows = wanted.requests[0].samples
    if wanted.echo:
        for number, ids in enumerate(prompts):
            known = []
            if wanted.top is not None and ids:
                known = await model.scorer.result(prompt_likelihoods(model.writer, ids, wanted.top))
            text = model.writer.tokenizer.decode(ids)
            yield [Written(number * rows + row, text, known) for row in range(rows)]
    if not wanted.length:
        yield [Written(choice, "", [], finish="length") for choice in range(rows * len(prompts))]
        return
    async with aclosing(model.writing(wanted.requests, top=wanted.top, live=wanted.stream)) as written:
        async for some in written:
            yield [
                Written(number * rows + part.row, part.text, part.tokens, part.count, part.finish)
                for number, part in some
            ]


class Choice:
    """What is known of the text of one choice."""

    def __init__(self) -> None:
        self.text, self.finish = list[str](), ""
        self.tokens: list[Likelihood] = []
        self.offset = 0  # in the text, of the next token


class Choices:
    """The choices of an answer, from their parts."""

    def __init__(self, said: Answer, wanted: Asked, count: int) -> None:
        self.said, self.with_tokens = said, wanted.top is not None
        self.choices = [Choice() for _ in range(count)]
        self.written = 0  # tokens

    def keep(self, parts: list[Written]) -> None:
        for part in parts:
            choice = self.choices[part.choice]
            choice.text.append(part.text)
            choice.tokens += part.tokens
            choice.finish = part.finish
            self.written += part.tokens_written

    def whole(self) -> list[dict[str, Any]]:
        return [
            self.said.choice(
                number, "".join(choice.text), choice.tokens if self.with_tokens else None, 0, choice.finish
            )
            for number, choice in enumerate(self.choices)
        ]

    def chunk(self, parts: list[Written]) -> list[dict[str, Any]]:
        """The choices of a chunk; nothing is kept."""
        made = []
        for part in parts:
            if part.text or part.tokens or part.finish:
                choice, tokens = self.choices[part.choice], part.tokens if self.with_tokens else None
                made.append(self.said.choice(part.choice, part.text, tokens, choice.offset, part.finish, live=True))
                choice.offset += sum(len(token.text) for token in part.tokens)
            self.written += part.tokens_written
        return made


async def answered(request: Request, model: Served, wanted: Asked, shape: type[Answer]) -> Response:
    """Write what is wanted. Raises `RefusedError`."""
    writer, first = model.writer, wanted.requests[0]
    if len(wanted.requests) > model.most_waiting:
        words = f"{len(wanted.requests)} prompts are more than may wait: {model.most_waiting}"
        raise RefusedError(words, param="prompt")
    try:
        writer.check_can_continue()
        with unknown_hint():
            prompts = [writer.tokenizer.encode(one.prompt, one.unknown).tolist() for one in wanted.requests]
        said = shape(model.name, writer.tokenizer.tokens, window=writer.model.window, seed=first.seed)
        choices = Choices(said, wanted, len(prompts) * first.samples)
        read, some = sum(map(len, prompts)), parts(model, wanted, prompts)

        def usage() -> dict[str, int]:
            written = choices.written
            return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

        if wanted.stream:
            begun = await unless_gone(request, anext(some))  # an error comes before the stream does
            return EventStream(chunks(choices, begun, some, usage if wanted.usage else None))
        async with aclosing(some):
            await unless_gone(request, collect(some, choices))
    except CharlmError as error:
        raise refusal(error) from None
    return Json(said.whole(choices.whole(), usage()))


async def collect(some: Parts, choices: Choices) -> None:
    async for written in some:
        choices.keep(written)


async def chunks(choices: Choices, begun: list[Written], some: Parts, usage: Any) -> Chunks:
    """A stream's chunks; `begun` are the first parts."""
    said = choices.said
    async with aclosing(some):
        if opening := said.opening(len(choices.choices)):
            yield said.chunk(opening)
        if made := choices.chunk(begun):
            yield said.chunk(made)
        async for written in some:
            if made := choices.chunk(written):
                yield said.chunk(made)
    if usage:
        yield said.chunk([], usage())


class EventStream(Response):
    """Chunks as server-sent events, until there are no more or the client has gone."""

    media_type = "text/event-stream"

    def __init__(self, chunks: Chunks) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        sending, watching = asyncio.ensure_future(self.send(send)), asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, watching):
                task.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)
            await self.chunks.aclose()

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self.chunks:
                await self.event(send, json.dumps(chunk, separators=(",", ":")))
        except Exception as error:  # the status has been sent: the error is an event
            refused = RefusedError(f"writing failed: {error}", status=500)
            await self.event(send, json.dumps(refused.to_json()))
        await self.event(send, "[DONE]")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def event(self, send: Send, data: str) -> None:
        await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})
