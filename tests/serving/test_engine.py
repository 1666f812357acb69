"""Many texts that are written together are what each is alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from small_runs import LANGUAGE_MODELS

from charlm import archs
from charlm.config import DataSpec, Lengths, take
from charlm.sampling.settings import Request
from charlm.sampling.stream import Until
from charlm.serving import engine as engines
from charlm.serving.engine import ROWS, BusyError, Engine, Job
from charlm.serving.rows import Part
from charlm.serving.worker import Worker
from charlm.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

ALPHABET = "\n abcdefg"
SIZES = {"layers": 2, "hidden_size": 16, "heads": 2, "dropout": 0.0}


LETTERS = CharTokenizer([ord(c) for c in ALPHABET], spell=False)


def build(arch: str, tokenizer: Tokenizer = LETTERS) -> Writer:
    torch.manual_seed(0)
    network = archs.load(arch)
    model = network(take(network.Config, SIZES), DataSpec(tokenizer.vocab_size, Lengths.of_text(16)))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return Writer(model, Vocabularies(tokenizer, tokenizer))


@contextmanager
def engine_for(writer: Writer, **options: Any) -> Iterator[Engine]:
    with Worker() as worker:
        yield Engine(writer, worker, **options)


class Answer:
    """What is delivered for one request."""

    def __init__(self, engine: Engine, request: Request, **options: Any) -> None:
        self.parts: SimpleQueue[list[Part] | Exception] = SimpleQueue()
        self.request = request
        self.job: Job = engine.submit(request, self.parts.put, **options)
        self.texts = [""] * request.samples
        self.tokens: list[list[Any]] = [[] for _ in self.texts]
        self.finishes = [""] * request.samples

    def whole(self) -> list[str]:
        while not all(self.finishes):
            given = self.parts.get(timeout=20)
            if isinstance(given, Exception):
                raise given
            for part in given:
                assert not self.finishes[part.row]
                self.texts[part.row] += part.text
                self.tokens[part.row] += part.tokens
                self.finishes[part.row] = part.finish
        return self.texts


def alone(writer: Writer, request: Request) -> list[str]:
    """What `charlm sample` writes, row by row."""
    pieces = list(writer.pieces(request))
    untils = [Until(request.stop) for _ in range(request.samples)]
    return ["".join(until.feed(p.texts[row]) for p in pieces) + until.flush() for row, until in enumerate(untils)]


REQUESTS = [
    Request("1", prompt="abc", length=30, seed=1),
    Request("0.7", prompt="", length=5, seed=2, samples=3),
    Request("1,0.5,0", prompt="fed a cab " * 8, length=12, seed=3),
    Request("0", prompt="\n", length=40),
    Request("1", top_k=3, prompt="g", length=25, seed=4),
    Request("0.9", top_p=0.8, min_p=0.05, repetition_penalty=1.5, prompt="abc", length=25, seed=5, samples=2),
    Request("1", repetition_penalty=2.0, length=9, seed=6),
    Request("1.5", prompt="a", length=60, seed=7, stop=("ab", "c", "gg")),
]


@pytest.mark.parametrize("arch", LANGUAGE_MODELS)
def test_each_text_is_what_it_is_alone_whoever_is_served_beside(arch: str) -> None:
    writer = build(arch)
    expected = [alone(writer, request) for request in REQUESTS]
    with engine_for(writer) as engine:
        for order in (REQUESTS, REQUESTS[::-1], REQUESTS * 3):
            answers = [Answer(engine, request, live=number % 2 == 0) for number, request in enumerate(order)]
            for answer in answers:
                assert answer.whole() == expected[REQUESTS.index(answer.request)]


def test_bytes_that_are_no_character_yet_are_held_back() -> None:
    """Random bytes: few are UTF-8."""
    writer, request = build("lstm", ByteTokenizer()), Request("1", prompt="é", length=300, seed=1, samples=2)
    with engine_for(writer) as engine:
        answer = Answer(engine, request, live=True, top=0)
        assert answer.whole() == alone(writer, request)
        for text, tokens in zip(answer.texts, answer.tokens, strict=True):
            assert "".join(token.text for token in tokens) == text


def test_while_a_long_prompt_is_read_the_others_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece of it between two tokens: here 4 tokens of 4,000, so 200 tokens are written long before it is read."""
    monkeypatch.setattr(engines, "PIECE", 4)
    monkeypatch.setattr(engines, "READING", 0.0)
    writer = build("gru")
    long, short = Request("1", prompt="abc d" * 800, length=3, seed=1), Request("1", prompt="a", length=200, seed=2)
    with engine_for(writer) as engine:
        first = Answer(engine, Request("1", length=1000, seed=3), live=True)
        first.parts.get(timeout=20)  # something is being written
        reads, writes = Answer(engine, long), Answer(engine, short)
        assert writes.whole() == alone(writer, short)
        assert reads.job.unplaced
        first.job.cancel()
        assert reads.whole() == alone(writer, long)


def test_while_an_idle_engine_reads_a_long_prompt_others_are_served() -> None:
    slow, quick = build("gru"), build("lstm")
    with Worker() as worker:
        reads = Answer(Engine(slow, worker), Request("1", prompt="abc d" * 40_000, length=1, seed=1))
        request = Request("1", prompt="a", length=20, seed=2)
        assert Answer(Engine(quick, worker), request).whole() == alone(quick, request)
        assert reads.job.unplaced
        reads.job.cancel()


def test_no_more_than_may_wait_do_and_who_is_not_wanted_any_longer_leaves() -> None:
    with engine_for(build("lstm"), waiting=1) as engine:
        endless = [Answer(engine, Request("1", length=10**9, seed=1, samples=ROWS), live=True)]
        endless[0].parts.get(timeout=20)
        waits = Answer(engine, Request("1", length=5, seed=2))
        with pytest.raises(BusyError, match="1 requests are waiting already"):
            Answer(engine, Request(length=1))
        endless[0].job.cancel()
        assert len(waits.whole()[0]) == 5


def test_what_goes_wrong_is_told_to_those_it_concerns_and_the_next_is_written() -> None:
    writer, request = build("lstm"), Request("1", length=20, seed=1)
    with engine_for(writer) as engine:
        step = engine.step

        def fail(_: torch.Tensor) -> torch.Tensor:
            engine.step = step
            raise RuntimeError("the disk is on fire")

        fail.put = step.put  # type: ignore[attr-defined]
        fail.move = step.move  # type: ignore[attr-defined]
        engine.step = fail  # type: ignore[assignment]
        with pytest.raises(RuntimeError, match="on fire"):
            Answer(engine, request).whole()
        assert Answer(engine, request).whole() == alone(writer, request)
