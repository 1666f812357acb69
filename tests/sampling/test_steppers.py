"""What is kept from one text to the next saves time, and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import charlm
from charlm import archs
from charlm.archs._graph import CarriedStepper, GraphStepper
from charlm.config import DataSpec, Lengths, take
from charlm.model import LanguageModel, Stepper
from charlm.quantize import quantize
from charlm.sampling import unrolled
from charlm.sampling.settings import Request
from charlm.sampling.steppers import KEPT, ROWS
from charlm.text.tokenizers import CharTokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

ALPHABET = "\n abcdefg"
Make = Callable[[LanguageModel, int], Stepper]
STEPPERS: dict[str, tuple[str, Make | None]] = {
    "packed lstm": ("lstm", None),
    "packed transformer": ("transformer", None),
    "recorded gru": ("gru", CarriedStepper),  # as on a GPU
    "recorded transformer": ("transformer", GraphStepper),
    "any other": ("seq2seq", None),
}
REQUESTS = [
    Request("1", prompt=prompt, length=length, samples=samples, seed=seed)
    for seed, (prompt, length, samples) in enumerate(
        [("", 20, 1), ("abc", 5, 1), ("fed a cab " * 3, 20, 1), ("", 20, 1), ("abc", 9, 2), ("\n", 20, 2), ("g", 3, 1)]
    )
]
Written = list[tuple[list[str], list[float]]]


@pytest.fixture(autouse=True)
def many_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded writes several tokens at once, as on a GPU."""
    if "recorded" in request.node.name:
        monkeypatch.setitem(unrolled.AHEAD, "cpu", 5)
        monkeypatch.setattr(unrolled, "ALONE", 3)


def build(kind: str, kept: int, device: str = "cpu") -> Writer:
    """Always the same random weights."""
    arch, make = STEPPERS[kind]
    torch.manual_seed(0)
    network = archs.load(arch)
    settings = {"layers": 2, "hidden_size": 16, "heads": 2, "dropout": 0.0}
    model = network(take(network.Config, settings), DataSpec(len(ALPHABET), Lengths.of_text(16)))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    if make:
        model.stepper = lambda rows: make(model, rows)
    tokenizer = CharTokenizer([ord(c) for c in ALPHABET], spell=False)
    return Writer(model.to(device), Vocabularies(tokenizer, tokenizer), kept=kept)


def counted(writer: Writer) -> list[int]:
    """The rows of each stepper that will be made."""
    made, make = list[int](), writer.model.stepper

    def stepper(rows: int) -> Stepper:
        made.append(rows)
        return make(rows)

    writer.model.stepper = stepper  # type: ignore[method-assign]
    return made


def written(writer: Writer, request: Request) -> Written:
    return [(piece.texts, piece.logprobs.tolist()) for piece in writer.pieces(request)]


@pytest.mark.parametrize("kind", STEPPERS)
def test_no_text_leaves_anything_behind_for_the_next(kind: str) -> None:
    writer, expected = build(kind, KEPT), [written(build(kind, 0), request) for request in REQUESTS]
    made = counted(writer)
    assert [written(writer, request) for request in REQUESTS] == expected
    for request in REQUESTS:  # neither does one that nobody reads to its end
        next(writer.pieces(request))
    assert [written(writer, request) for request in REQUESTS[::-1]] == expected[::-1]
    assert made == [1, 2]


def side_by_side(writer: Writer) -> list[Written]:
    """All of them, a token of each at a time."""
    rounds = zip_longest(*map(writer.pieces, REQUESTS))
    return [
        [(piece.texts, piece.logprobs.tolist()) for piece in pieces if piece] for pieces in zip(*rounds, strict=True)
    ]


@pytest.mark.parametrize("kind", STEPPERS)
def test_texts_that_are_written_at_the_same_time_do_not_meet(kind: str) -> None:
    writer, expected = build(kind, KEPT), [written(build(kind, 0), request) for request in REQUESTS]
    for _ in range(2):
        assert side_by_side(writer) == expected


def write_on_a_gpu() -> None:
    """There both kinds are recorded, and a recorded step holds the state of its text."""
    for kind in ("packed lstm", "packed transformer"):
        expected = [texts(written(build(kind, 0, "cuda"), request)) for request in REQUESTS]
        writer = build(kind, KEPT, "cuda")
        for _ in range(2):
            assert [texts(written(writer, request)) for request in REQUESTS] == expected
            assert list(map(texts, side_by_side(writer))) == expected


def texts(written: Written) -> list[list[str]]:
    return [texts for texts, _ in written]


@pytest.mark.gpu
def test_so_it_is_on_a_gpu() -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    code = "from test_steppers import write_on_a_gpu; write_on_a_gpu()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, check=True)


def test_few_are_kept_the_newest_and_none_of_many_rows() -> None:
    writer = build("packed lstm", KEPT)
    for rows in (1, *range(2, KEPT + 2), ROWS + 1):
        written(writer, Request(length=1, samples=rows))
    made = counted(writer)
    for rows in (1, *range(2, KEPT + 2), ROWS + 1):
        written(writer, Request(length=1, samples=rows))
    assert len(writer.steppers.kept) == KEPT
    assert made == [*range(1, KEPT + 2), ROWS + 1]  # each pushed out the one that came next
    going = [writer.pieces(Request(samples=3)) for _ in range(KEPT + 3)]
    for pieces in going:
        next(pieces)
    del going, pieces
    assert [rows for rows, _ in writer.steppers.kept] == [3] * KEPT


@torch.no_grad()
def scale(model: LanguageModel) -> None:
    for p in model.parameters():
        p.mul_(1.3)


def learn(model: LanguageModel) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.tensor([[0, 1, 2, 3]])).logits.sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def load(model: LanguageModel) -> None:
    model.load_state_dict({name: value.flip(0) for name, value in model.state_dict().items()})


def replace(model: LanguageModel) -> None:
    for p in model.parameters():
        p.data = p.detach() * 1.3


CHANGES = [scale, learn, load, replace]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", STEPPERS)
def test_what_was_made_for_other_weights_is_not_used_again(kind: str, change: Callable[[nn.Module], Any]) -> None:
    writer, changed, request = build(kind, KEPT), build(kind, 0), Request("1", length=20, seed=0)
    going = writer.pieces(request)
    next(going)
    before = written(writer, request)
    change(writer.model)
    change(changed.model)
    expected = written(changed, request)
    assert written(writer, request) == expected != before
    going.close()  # its stepper comes back now
    both = list(zip(writer.pieces(request), writer.pieces(request), strict=True))
    assert [[(p.texts, p.logprobs.tolist()) for p in pieces] for pieces in zip(*both, strict=True)] == [expected] * 2


def test_weights_that_are_rounded_are_packed_anew() -> None:
    writer, rounded, request = build("packed transformer", KEPT), build("packed transformer", 0), Request(length=20)
    written(writer, request)
    for one in (writer, rounded):
        quantize(one.model)
    same = Request(length=20, seed=1)
    assert written(writer, same) == written(rounded, same)


def test_an_opened_run_keeps_and_a_model_in_training_does_not(trained: Path) -> None:
    opened = charlm.load(trained)
    live = Writer(opened.model, opened.vocabularies)
    for writer in (opened, live):
        writer.sample("WICK", length=3)
    assert (len(opened.steppers.kept), len(live.steppers.kept)) == (1, 0)
