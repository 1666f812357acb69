"""Answers in the shapes of OpenAI's interface: of completions, and of chats."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from charlm.serving.rows import Likelihood


class Answer(ABC):
    """The answer to one request; its parts are whole answers or, of a stream, chunks."""

    kind: ClassVar[str]
    chunk_kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, model: str, tokens: Sequence[bytes], **more: Any) -> None:
        """`more` stands in every part."""
        self.tokens = tokens
        self.head = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self.more = more

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return {**self.head, "object": self.kind, "choices": choices, "usage": usage, **self.more}

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
        said = {**self.head, "object": self.chunk_kind, "choices": choices, **self.more}
        return said if usage is None else {**said, "usage": usage}

    def opening(self, choices: int) -> list[dict[str, Any]]:  # noqa: ARG002
        """What a stream of so many choices begins with."""
        return []

    def name(self, id: int) -> str:
        """A token as a text; one that is no whole text by its bytes, as OpenAI has it."""
        try:
            return self.tokens[id].decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.tokens[id])

    @abstractmethod
    def choice(
        self, index: int, text: str, tokens: list[Likelihood] | None, offset: int, finish: str, *, live: bool = False
    ) -> dict[str, Any]:
        """A choice, or a part of it; `tokens` are those with logprobs, of which the first begins at `offset`."""


class Completion(Answer):
    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def choice(
        self, index: int, text: str, tokens: list[Likelihood] | None, offset: int, finish: str, *, live: bool = False
    ) -> dict[str, Any]:
        del live  # parts look as the whole does
        logprobs = None if tokens is None else self.logprobs(tokens, offset)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish or None}

    def logprobs(self, tokens: list[Likelihood], offset: int) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        likeliest = [{self.name(id): value for id, value in [*t.likeliest, (t.id, t.logprob)]} for t in tokens]
        return {
            "tokens": [self.name(token.id) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": likeliest,
            "text_offset": offsets,
        }


class Chat(Answer):
    kind, chunk_kind = "chat.completion", "chat.completion.chunk"
    prefix = "chatcmpl"

    def opening(self, choices: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for index in range(choices)]

    def choice(
        self, index: int, text: str, tokens: list[Likelihood] | None, offset: int, finish: str, *, live: bool = False
    ) -> dict[str, Any]:
        del offset
        logprobs = None if tokens is None else {"content": [self.likelihood(token) for token in tokens]}
        said = {"delta": {"content": text}} if live else {"message": {"role": "assistant", "content": text}}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": finish or None}

    def likelihood(self, token: Likelihood) -> dict[str, Any]:
        return {
            **self.described(token.id, token.logprob),
            "top_logprobs": [self.described(id, logprob) for id, logprob in token.likeliest],
        }

    def described(self, id: int, logprob: float) -> dict[str, Any]:
        return {"token": self.name(id), "logprob": logprob, "bytes": list(self.tokens[id])}
