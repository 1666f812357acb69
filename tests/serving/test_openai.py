"""OpenAI's own client gets from a run what `charlm sample` and `charlm score` say of it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from served import Running

from charlm.progress import result
from charlm.sampling.settings import Request
from charlm.serving import engine
from charlm.writer import Writer

PROMPT = "PEG:\n"


def test_a_completion_is_what_sample_writes_with_that_seed(server: Running, lstm: Writer, transformer: Writer) -> None:
    with server.client() as client:
        for name, writer in (("a", lstm), ("b", transformer)):
            for settings in ({"temperature": 1.0}, {"temperature": 0}, {"temperature": 0.7, "top_p": 0.9}):
                got = client.completions.create(model=name, prompt=PROMPT, max_tokens=50, seed=7, **settings)
                choice, usage = got.choices[0], got.usage
                assert choice.text == writer.sample(PROMPT, 50, seed=7, **settings)
                assert (choice.finish_reason, choice.logprobs) == ("length", None)
                assert usage is not None
                assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 50, 55)


@pytest.fixture
def token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams do not wait for more."""
    monkeypatch.setattr(engine, "EVERY", -1.0)


@pytest.mark.usefixtures("token_by_token")
def test_a_stream_says_the_same_in_pieces(server: Running, lstm: Writer) -> None:
    with server.client() as client:
        asked: Any = {"model": "a", "prompt": PROMPT, "max_tokens": 400, "seed": 3, "n": 2}
        whole = client.completions.create(**asked)
        chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        texts = [
            "".join(choice.text for chunk in chunks for choice in chunk.choices if choice.index == index)
            for index in (0, 1)
        ]
        assert texts == [choice.text for choice in whole.choices]
        assert texts[0] == lstm.sample(PROMPT, 400, seed=3)
        finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        assert finishes == ["length"] * 2
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].usage == whole.usage
        assert len(chunks) > 400


def test_fields_of_ours_go_beside_those_of_openai(server: Running, lstm: Writer) -> None:
    ours: dict[str, Any] = {
        "temperature": [1.0, 0.5],
        "top_k": 5,
        "min_p": 0.02,
        "repetition_penalty": 1.3,
        "unknown": "skip",
    }
    with server.client() as client:
        got = client.completions.create(model="a", prompt="PEG: é", max_tokens=40, seed=1, extra_body=ours)
        assert got.choices[0].text == lstm.sample("PEG: é", 40, seed=1, **ours)
        neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "best_of": 1, "logit_bias": {}, "user": "me"}
        client.completions.create(model="a", prompt=PROMPT, max_tokens=1, extra_body=neutral)


def test_without_a_seed_an_answer_says_the_one_that_it_was_given(server: Running, lstm: Writer) -> None:
    with server.client() as client:
        first, second = (client.completions.create(model="a", prompt=PROMPT, max_tokens=30) for _ in range(2))
        for got in (first, second):
            assert got.choices[0].text == lstm.sample(PROMPT, 30, seed=got.seed)  # type: ignore[attr-defined]
        assert first.choices[0].text != second.choices[0].text


def test_logprobs_are_the_models_before_temperature_and_filters(server: Running, lstm: Writer) -> None:
    request = Request("0.5", top_k=3, prompt=PROMPT, length=20, seed=2)
    pieces = list(lstm.pieces(request))
    with server.client() as client:
        for stream in (False, True):
            got = client.completions.create(
                model="a",
                prompt=PROMPT,
                max_tokens=20,
                seed=2,
                temperature=0.5,
                logprobs=3,
                extra_body={"top_k": 3},
                stream=stream,  # type: ignore[call-overload]
            )
            chunks = list(got) if stream else [got]
            said = [chunk.choices[0].logprobs for chunk in chunks]
            tokens = [token for part in said for token in part.tokens]
            assert tokens == [piece.texts[0] for piece in pieces]
            values = [value for part in said for value in part.token_logprobs]
            assert values == pytest.approx([float(piece.logprobs) for piece in pieces], abs=1e-4)
            assert [offset for part in said for offset in part.text_offset] == list(range(20))
            for token, value, top in zip(tokens, values, [t for part in said for t in part.top_logprobs], strict=True):
                assert top[token] == pytest.approx(value)
                assert len(top) in (3, 4)
                assert max(top.values()) >= value


def test_an_echo_without_new_tokens_scores_a_prompt_exactly(server: Running, lstm: Writer, transformer: Writer) -> None:
    """The newline that stands before every text is no part of it, so the first token has a cost, too."""
    text = "SNUFF:\nWho goes there?"
    with server.client() as client:
        for name, writer in (("a", lstm), ("b", transformer)):
            got = client.completions.create(model=name, prompt=text, max_tokens=0, echo=True, logprobs=1)
            said = got.choices[0].logprobs
            assert got.choices[0].text == text
            assert said is not None
            assert "".join(said.tokens or []) == text
            nats = -sum(value or 0 for value in said.token_logprobs or [])
            assert nats / len(text) == pytest.approx(result(writer.scoring(text)).nats_per_token, rel=1e-5)
        both = client.completions.create(model="a", prompt=[text, PROMPT], max_tokens=5, echo=True, logprobs=0, seed=1)
        assert [choice.text for choice in both.choices] == [p + lstm.sample(p, 5, seed=1) for p in (text, PROMPT)]
        assert [len((choice.logprobs and choice.logprobs.tokens) or []) for choice in both.choices] == [
            len(text) + 5,
            len(PROMPT) + 5,
        ]


def test_a_chat_continues_the_contents_of_its_messages(server: Running, lstm: Writer) -> None:
    messages: Any = [
        {"role": "system", "content": "PEG:"},
        {"role": "user", "content": [{"type": "text", "text": "It"}]},
    ]
    asked: Any = {"model": "a", "messages": messages, "max_completion_tokens": 30, "seed": 4}
    expected = lstm.sample("PEG:\nIt\n", 30, seed=4)
    with server.client() as client:
        whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
        message, said = whole.choices[0].message, whole.choices[0].logprobs
        assert (message.role, message.content) == ("assistant", expected)
        assert said is not None
        assert bytes(b for token in said.content or [] for b in token.bytes or []).decode() == expected
        assert {len(token.top_logprobs) for token in said.content or []} == {2}
        chunks = list(client.chat.completions.create(**asked, stream=True))
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected


def test_the_runs_are_listed_with_their_windows(server: Running) -> None:
    with server.client() as client:
        models = {model.id: model for model in client.models.list()}
        assert {name: model.window for name, model in models.items()} == {"a": None, "b": 32}  # type: ignore[attr-defined]
        assert client.models.retrieve("b").owned_by == "charlm"
        long = client.completions.create(model="b", prompt=PROMPT * 30, max_tokens=3)  # it slides: nothing is cut
        assert (long.window, long.usage and long.usage.prompt_tokens) == (32, 150)  # type: ignore[attr-defined]
        with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4'; there are a, b"):
            client.completions.create(model="gpt-4", prompt="")


def test_a_score_is_that_of_charlm_score(server: Running, lstm: Writer) -> None:
    text = "PEG:\nTwo fools"
    exact = lstm.score(text).bits_per_byte
    for per, names in (("text", None), ("character", "characters"), ("token", "tokens")):
        status, _, got = server.post("/v1/score", {"text": text, "per": per})
        assert (status, got["bytes"], got["model"]) == (200, len(text), "a")
        assert got["bits_per_byte"] == pytest.approx(exact, rel=1e-5)
        if names:
            assert "".join(part["text"] for part in got[names]) == text
            assert sum(part["bits"] for part in got[names]) == pytest.approx(got["bits"])


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "words"),
    [
        ("completions", {"prompt": 5}, 400, "prompt", "prompt must be a text"),
        ("completions", {"prompt": [1, 2]}, 400, "prompt", "ids of tokens are not read"),
        ("completions", {"prompt": "", "colour": "red"}, 400, "colour", "colour is no field of this request"),
        ("completions", {"prompt": "", "novel": 5}, 400, "novel", "novel is no field"),
        ("completions", {"max_tokens": "7"}, 400, "max_tokens", "a whole number from 0 to 100,000, got '7'"),
        ("completions", {"max_tokens": True}, 400, "max_tokens", "a whole number"),
        ("completions", {"max_tokens": 10**9}, 400, "max_tokens", "got 1000000000"),
        ("completions", {"n": 0}, 400, "n", "a whole number from 1 to 16, got 0"),
        ("completions", {"n": 17}, 400, "n", "from 1 to 16"),
        ("completions", {"temperature": "hot"}, 400, "temperature", "temperature must be a number from 0 to 1000"),
        ("completions", {"top_p": "0.5"}, 400, "top_p", "top_p must be a number, got '0.5'"),
        ("completions", {"top_k": -1}, 400, "top_k", "top_k must be at least 0, got -1"),
        ("completions", {"top_k": 2.5}, 400, "top_k", "a whole number"),
        ("completions", {"seed": -1}, 400, "seed", "seed must be at least 0, got -1"),
        ("completions", {"stop": 5}, 400, "stop", "stop must be a list of texts, got 5"),
        ("completions", {"stream": "yes"}, 400, "stream", "stream must be true or false"),
        ("completions", {"logprobs": 100}, 400, "logprobs", "from 0 to 20, got 100"),
        ("completions", {"presence_penalty": 0.5}, 400, "presence_penalty", "cannot be done here"),
        ("completions", {"prompt": "é"}, 400, "prompt", "give unknown skip or unknown nearest"),
        ("completions", {"prompt": "é", "stream": True}, 400, "prompt", "the vocabulary lacks 'é'"),
        ("completions", {"prompt": "", "model": 5}, 400, "model", "the name of a model"),
        ("completions", {"prompt": "", "model": "x"}, 404, "model", "there are a, b"),
        ("completions", [1], 400, None, "the body must be a JSON object, got list"),
        ("chat/completions", {}, 400, "messages", "one or more messages"),
        ("chat/completions", {"messages": [{"role": "user"}]}, 400, "messages", "a text as its content"),
        ("chat/completions", {"messages": [{"content": "a"}], "tools": [{}]}, 400, "tools", "cannot be done here"),
        ("score", {}, 400, "text", "it is empty"),
        ("score", {"text": "a", "per": "word"}, 400, "per", "one of text, character, token"),
        ("score", {"text": "é"}, 400, "text", "the vocabulary lacks 'é'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_field(
    server: Running, path: str, body: Any, status: int, param: str | None, words: str
) -> None:
    got, _, said = server.post(f"/v1/{path}", body)
    assert (got, said["error"]["param"]) == (status, param)
    assert words in said["error"]["message"]
    assert "--" not in said["error"]["message"]
    assert said["error"]["type"] == "invalid_request_error"


@pytest.mark.usefixtures("token_by_token")
def test_a_stop_string_never_leaks_however_it_is_split(server: Running, lstm: Writer) -> None:
    text = lstm.sample(PROMPT, 60, seed=5)
    with server.client() as client:
        for start in range(0, 30, 3):
            for length in (1, 2, 5):
                stop = text[start : start + length]
                expected = text[: text.index(stop)]
                asked: Any = {"model": "a", "prompt": PROMPT, "max_tokens": 60, "seed": 5, "stop": [stop, "never"]}
                whole = client.completions.create(**asked, logprobs=0).choices[0]
                chunks = [chunk.choices[0] for chunk in client.completions.create(**asked, stream=True)]
                assert (whole.text, whole.finish_reason) == (expected, "stop")
                assert "".join(chunk.text for chunk in chunks) == expected
                assert chunks[-1].finish_reason == "stop"
                assert "".join((whole.logprobs and whole.logprobs.tokens) or []) == expected


def test_a_stream_ends_as_openai_has_it(server: Running) -> None:
    answer = server.raw_post("/v1/completions", {"prompt": PROMPT, "max_tokens": 3, "stream": True})
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: text/event-stream" in head
    events = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"data: [DONE]"
    assert all(json.loads(event[6:])["object"] == "text_completion" for event in events[:-1])
