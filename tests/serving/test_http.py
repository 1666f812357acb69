"""Whatever clients do, the server answers the others."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from served import Running, everything, message, parsed, running, until

from charlm import archs
from charlm.config import DataSpec, Lengths, take
from charlm.serving import bodies
from charlm.serving.engine import ROWS
from charlm.serving.server import listen
from charlm.text.tokenizers import ByteTokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

PROMPT = "PEG:\n"
LONG = {"prompt": PROMPT, "max_tokens": 100_000}
COMPLETIONS = "/v1/completions"


def still_answers(server: Running, lstm: Writer) -> None:
    status, _, got = server.post(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 20, "seed": 9})
    assert (status, got["choices"][0]["text"]) == (200, lstm.sample(PROMPT, 20, seed=9))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (message("POST", COMPLETIONS, b'{"prompt": '), 400),
        (message("POST", COMPLETIONS, b"[" * 100_000), 400),
        (message("POST", COMPLETIONS, b"\xff\xfe"), 400),
        (message("POST", COMPLETIONS, b'{"prompt": "a", "temperature": NaN}'), 400),
        (message("POST", COMPLETIONS, b""), 400),
        (message("POST", COMPLETIONS, {}, content_type="text/plain"), 415),
        (message("GET", COMPLETIONS, None), 405),
        (message("GET", "/v2/completions", None), 404),
        (message("POST", COMPLETIONS, b"{}", content_length="999999999"), 413),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_is_answered(
    server: Running, lstm: Writer, sent: bytes, status: int
) -> None:
    got, _, said = parsed(server.raw(sent))
    assert got == status
    if sent != b"rubbish\r\n\r\n":  # of which no more is known
        assert said["error"]["message"]
    still_answers(server, lstm)


def test_a_body_without_a_length_is_cut_off_where_it_is_too_large(server: Running, lstm: Writer) -> None:
    head = message("POST", COMPLETIONS, None, content_length="", transfer_encoding="chunked")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with suppress(ConnectionError), server.connection() as made:  # it may be cut off before it reads the answer
        made.sendall(head)
        for _ in range(bodies.LARGEST // 0x10000 + 2):
            made.sendall(chunk)
        assert parsed(everything(made))[0] == 413
    still_answers(server, lstm)


def test_a_body_that_does_not_arrive_is_not_waited_for(
    server: Running, lstm: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.1)
    assert parsed(server.raw(message("POST", COMPLETIONS, b"{", content_length="100")))[0] == 408
    still_answers(server, lstm)


def test_a_slow_client_keeps_nobody_waiting(server: Running, lstm: Writer) -> None:
    """One that sends its request byte by byte, and one that does not read its answer."""
    with server.connection() as slow, server.connection() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(message("POST", COMPLETIONS, {**LONG, "stream": True}))
        request = message("POST", COMPLETIONS, {"prompt": PROMPT, "max_tokens": 20, "seed": 9})
        for byte in request[:-1]:
            slow.sendall(bytes([byte]))
        still_answers(server, lstm)
        slow.sendall(request[-1:])
        assert parsed(everything(slow))[2]["choices"][0]["text"] == lstm.sample(PROMPT, 20, seed=9)


def idle(server: Running) -> Callable[[], bool]:
    return lambda: not any(model.engine.at_work or model.scorer.count for model in server.models)


@pytest.mark.parametrize(
    "body",
    [
        {**LONG, "stream": True},
        LONG,
        {**LONG, "n": 3},
        {**LONG, "prompt": [PROMPT, ""], "stream": True},
        {"prompt": PROMPT * 100_000, "max_tokens": 1, "seed": 1},
        {"prompt": PROMPT * 100_000, "max_tokens": 0, "echo": True, "logprobs": 1},
    ],
)
@pytest.mark.parametrize("leaves", ["closes", "half closes"])
def test_a_client_that_goes_away_stops_its_own_work_and_nothing_else(
    server: Running, lstm: Writer, body: dict[str, Any], leaves: str
) -> None:
    until(idle(server))
    with server.connection() as beside, server.connection() as made:
        beside.sendall(message("POST", COMPLETIONS, {"prompt": PROMPT, "max_tokens": 2000, "seed": 9}))
        made.sendall(message("POST", COMPLETIONS, body))
        until(lambda: not idle(server)())
        made.shutdown(socket.SHUT_WR if leaves == "half closes" else socket.SHUT_RDWR)
        assert parsed(everything(beside))[2]["choices"][0]["text"] == lstm.sample(PROMPT, 2000, seed=9)
        until(idle(server))


def test_who_waits_too_long_in_the_queue_is_told_when_to_come_back(lstm: Writer) -> None:
    with running(lstm, waiting=2) as server, ThreadPoolExecutor(8) as pool:
        engine = server.models[0].engine
        going = [server.connection() for _ in range(3)]
        with going[0] as one, going[1] as two, going[2] as three:
            one.sendall(message("POST", COMPLETIONS, {**LONG, "n": ROWS}))
            until(lambda: len(engine.rows) == ROWS)
            for waiting, connection in enumerate((two, three), 1):
                connection.sendall(message("POST", COMPLETIONS, {"prompt": PROMPT, "max_tokens": 20, "seed": 9}))
                until(lambda waiting=waiting: len(engine.waiting) == waiting)  # type: ignore[misc]
            status, headers, said = server.post(COMPLETIONS, {"prompt": PROMPT})
            assert (status, said["error"]["type"]) == (429, "rate_limit_error")
            assert int(headers["retry-after"]) >= 1
            one.close()
            texts = list(pool.map(lambda made: parsed(everything(made))[2]["choices"][0]["text"], (two, three)))
        assert texts == [lstm.sample(PROMPT, 20, seed=9)] * 2


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "LOCALHOST", "[::1]:8000"])
def test_it_answers_by_the_names_of_this_machine(server: Running, host: str) -> None:
    assert server.get("/healthz", host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "[::2]:80"])
def test_a_page_whose_own_name_leads_here_is_refused(lstm: Writer, host: str) -> None:
    with running(lstm) as server:
        for path in ("/v1/models", "/healthz", "/"):
            status, _, said = server.get(path, host=host)
            assert (status, said["error"]["code"]) == (421, "unknown_host")
    with running(lstm, hosts=()) as server:
        assert server.get("/healthz", host=host)[0] == 200


def test_a_key_is_asked_for_where_there_are_keys(lstm: Writer) -> None:
    with running(lstm, keys=["sésame", "open"]) as server:
        for headers, status in [
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": "open"}, 401),
            ({"authorization": "Bearer open"}, 200),
        ]:
            got, said, body = server.get("/v1/models", **headers)
            assert got == status
            if status == 401:
                assert said["www-authenticate"] == "Bearer"
                assert body["error"]["code"] == "invalid_api_key"
        assert server.get("/healthz")[0] == 200
        with server.client("open") as client:
            assert [model.id for model in client.models.list()] == ["a"]


def test_pages_of_a_named_origin_may_call_and_no_others(server: Running, lstm: Writer) -> None:
    page = "https://chat.example"
    ask = {"origin": page, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with running(lstm, cors=[page], keys=["open"]) as named:
        status, headers, _ = parsed(named.raw(message("OPTIONS", COMPLETIONS, None, **ask)))
        assert (status, headers["access-control-allow-origin"]) == (200, page)
        assert "authorization" in headers["access-control-allow-headers"].lower()
        body = {"prompt": PROMPT, "max_tokens": 1}
        status, headers, _ = named.post(COMPLETIONS, body, origin=page, authorization="Bearer open")
        assert (status, headers["access-control-allow-origin"]) == (200, page)
        assert named.post(COMPLETIONS, body, origin=page)[1]["access-control-allow-origin"] == page  # of a 401, too
        assert "access-control-allow-origin" not in named.get("/healthz", origin="https://other.example")[1]
    status, headers, _ = parsed(server.raw(message("OPTIONS", COMPLETIONS, None, **ask)))
    assert status >= 400
    assert "access-control-allow-origin" not in headers


def answers(server: Running, requests: int, at_once: int) -> list[Any]:
    """What so many clients get: every third one streams."""

    def ask(number: int) -> str:
        body = {"prompt": PROMPT[: 1 + number % 5], "max_tokens": 1 + number % 12, "seed": number, "temperature": 1}
        if number % 3:
            status, _, got = server.post(COMPLETIONS, body)
            assert status == 200
            return str(got["choices"][0]["text"])
        events = server.raw_post(COMPLETIONS, {**body, "stream": True}).partition(b"\r\n\r\n")[2]
        lines = [line.strip()[6:] for line in events.split(b"\n") if line.startswith(b"data: ")]
        assert lines[-1] == b"[DONE]"
        return "".join(choice["text"] for line in lines[:-1] for choice in json.loads(line)["choices"])

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(ask, range(requests)))


def expected(lstm: Writer, requests: int) -> list[str]:
    return [lstm.sample(PROMPT[: 1 + n % 5], 1 + n % 12, seed=n, temperature=1) for n in range(requests)]


def test_a_hundred_requests_64_at_once_are_all_answered_right(server: Running, lstm: Writer) -> None:
    assert answers(server, 100, 64) == expected(lstm, 100)
    until(idle(server))


@pytest.mark.slow
def test_a_thousand_requests_64_at_once_are_all_answered_right(server: Running, lstm: Writer) -> None:
    assert answers(server, 1000, 64) == expected(lstm, 1000)
    until(idle(server))
    assert threading.active_count() < 40


def test_an_answer_is_sent_at_once() -> None:
    """Without TCP_NODELAY its second packet waits for the client's confirmation of the first: 40 ms on Linux."""
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # for which asyncio sets it


def test_half_a_surrogate_pair_is_answered_as_it_came() -> None:
    tokenizer, network = ByteTokenizer(), archs.load("rnn")
    model = network(take(network.Config, {"hidden_size": 8}), DataSpec(tokenizer.vocab_size, Lengths.of_text(16)))
    with running(Writer(model, Vocabularies(tokenizer, tokenizer))) as server:
        status, _, said = server.post(COMPLETIONS, {"prompt": "\ud800", "echo": True, "max_tokens": 0})
        assert (status, said["choices"][0]["text"]) == (200, "\ud800")
        status, _, said = server.post("/v1/score", {"text": "a\ud800", "per": "character"})
        assert (status, [one["text"] for one in said["characters"]]) == (200, ["a", "\ud800"])
        assert server.post(COMPLETIONS, {"\ud800": 1})[0] == 400


@pytest.mark.parametrize("per", ["text", "character", "token"])
def test_an_empty_text_has_no_score(server: Running, per: str) -> None:
    status, _, said = server.post("/v1/score", {"text": "", "per": per})
    assert (status, said["error"]["param"]) == (400, "text")


def test_a_prompt_of_which_nothing_is_left_is_echoed_as_nothing(server: Running) -> None:
    asked = {"prompt": "☃", "unknown": "skip", "echo": True, "max_tokens": 0}
    status, _, said = server.post(COMPLETIONS, asked)
    assert (status, said["choices"][0]["text"], said["usage"]["prompt_tokens"]) == (200, "", 0)
