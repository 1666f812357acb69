"""What a client may ask for, as JSON: OpenAI's fields and those of `Request`. Whatever else is given is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from charlm.config import check, fields_of, setting
from charlm.errors import CharlmError, SettingsError
from charlm.sampling.settings import Request
from charlm.serving.engine import ROWS

LONGEST = 100_000  # tokens of an answer
MOST_TOP = 20  # likeliest tokens beside each one

OURS = {"max_tokens": "length", "max_completion_tokens": "length", "n": "samples"}
"""Fields of OpenAI's that have another name in a `Request`."""
SAME = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed", "unknown")
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
"""Fields of OpenAI's that cannot be done, with the values that ask for nothing: many clients always send them."""
IGNORED = ("user", "metadata")  # that say who asks
SHARED = ("model", "stream", "stream_options", *OURS, *SAME, *NEUTRAL, *IGNORED)
COMPLETION = ("prompt", "echo", "logprobs", *SHARED)
CHAT = ("messages", "logprobs", "top_logprobs", *SHARED)
SCORE = ("model", "text", "per")


class RefusedError(Exception):
    """A request that gets no answer but why."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None, **headers: str
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @classmethod
    def because(cls, error: CharlmError) -> RefusedError:
        """An error about a setting or a text, in the words of the interface: `--top-k` is `top_k` there."""
        names = {ours: theirs for theirs, ours in reversed(OURS.items())}

        def name(flag: str) -> str:
            return names.get(setting(flag), setting(flag))

        field = error.field if isinstance(error, SettingsError) else "prompt"
        message = re.sub(r"--[a-z][a-z-]*", lambda found: name(found[0]), str(error))
        return cls(message, param=name(field) if field else None)

    def to_json(self) -> dict[str, Any]:
        """As OpenAI's errors are."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Asked:
    """A request for text."""

    model: str | None  # None: the default
    requests: list[Request]  # one for each prompt, alike but for that
    length: int  # tokens; may be 0, which the requests cannot be
    top: int | None  # logprobs, with so many of the likeliest tokens
    echo: bool
    stream: bool
    usage: bool  # at the end of a stream


def known(body: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields that were given a value. Raises `RefusedError` for what is no object, and for any other field."""
    if not isinstance(body, dict):
        raise RefusedError(f"the body must be a JSON object, got {type(body).__name__}")
    for name in body:
        if name not in names:
            raise RefusedError(
                f"{name} is no field of this request; there are {', '.join(sorted(names))}", param=name, code="unknown"
            )
    given = {name: value for name, value in body.items() if value is not None}
    for name, neutral in NEUTRAL.items():
        if name in given and not any(given[name] == value for value in neutral):
            raise RefusedError(f"{name} cannot be done here: leave it out or give {neutral[0]!r}", param=name)
    return given


def typed(given: dict[str, Any], name: str, kind: type, default: Any, words: str) -> Any:
    """A field's value. Raises `RefusedError` unless it is of that kind, in `words`."""
    value = given.get(name, default)
    if value is default or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return value
    raise RefusedError(f"{name} must be {words}, got {value!r:.100}", param=name)


def whole_number(given: dict[str, Any], name: str, default: Any, most: int, least: int = 0) -> Any:
    value = typed(given, name, int, default, f"a whole number from {least} to {most:,}")
    if value is not default and not least <= value <= most:
        raise RefusedError(f"{name} must be a whole number from {least} to {most:,}, got {value}", param=name)
    return value


def completion(body: Any) -> Asked:
    """The body of `/v1/completions`. Raises `RefusedError`."""
    given = known(body, COMPLETION)
    prompt = given.get("prompt", "")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise RefusedError("prompt must be a text or a list of texts; ids of tokens are not read", param="prompt")
    top = whole_number(given, "logprobs", None, MOST_TOP)
    return asked(given, prompts, top, echo=typed(given, "echo", bool, False, "true or false"))


def chat(body: Any) -> Asked:
    """The body of `/v1/chat/completions`. Raises `RefusedError`.

    No model here knows roles: the prompt is the contents of all messages, each with a newline behind it.
    """
    given = known(body, CHAT)
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusedError("messages must be a list of one or more messages", param="messages")
    prompt = "".join(f"{content(message)}\n" for message in messages)
    top = whole_number(given, "top_logprobs", 0, MOST_TOP)
    wanted = typed(given, "logprobs", bool, False, "true or false")
    return asked(given, [prompt], top if wanted else None, echo=False)


def content(message: Any) -> str:
    """The text of a message, which may be in parts."""
    text = message.get("content") if isinstance(message, dict) else None
    if isinstance(text, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in text):
        return "".join(part["text"] for part in text)
    if not isinstance(text, str):
        raise RefusedError(f"a message must have a text as its content, got {message!r:.100}", param="messages")
    return text


def asked(given: dict[str, Any], prompts: list[str], top: int | None, *, echo: bool) -> Asked:
    """What both forms of a request have."""
    if {"max_tokens", "max_completion_tokens"} <= given.keys():
        raise RefusedError("max_tokens and max_completion_tokens are one field; give one of them", param="max_tokens")
    lengths = [name for name in given if OURS.get(name) == "length"]
    length = whole_number(given, lengths[0], Request.length, LONGEST) if lengths else Request.length
    settings = {name: given[name] for name in SAME if name in given}
    settings |= {"length": max(1, length), "samples": whole_number(given, "n", 1, ROWS, least=1)}
    options = typed(given, "stream_options", dict, {}, "an object")
    if options.keys() - {"include_usage", "include_obfuscation"}:
        raise RefusedError("stream_options has include_usage and no other field", param="stream_options")
    try:
        for field in fields_of(Request):  # JSON has numbers: a text is none
            if field.name in settings and field.name not in ("temperature", "stop"):
                check(field, settings[field.name])
        first = Request.of(**settings)
        first = Request.of(**settings, seed=first.chosen_seed()) if first.seed is None else first
        requests = [Request.of(**{**first.to_dict(), "prompt": prompt}) for prompt in prompts]
    except CharlmError as error:
        raise RefusedError.because(error) from None
    return Asked(
        typed(given, "model", str, None, "the name of a model"),
        requests,
        length,
        top,
        echo,
        typed(given, "stream", bool, False, "true or false"),
        typed(options, "include_usage", bool, False, "true or false"),
    )
