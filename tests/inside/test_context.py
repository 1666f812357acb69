"""`charlm context` scores the same places with more and more of the text in sight."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import LANGUAGE_MODELS
from torch import Tensor, nn

import charlm
from charlm.config import DataSpec, Lengths, Settings
from charlm.inside.context import Context, Reach, last_nats, nats_by_context, places, powers, reach
from charlm.model import Features, LanguageModel, State
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]


def tokens(length: int) -> Tensor:
    return torch.randint(12, (1, length), generator=torch.Generator().manual_seed(0))


class Counting(LanguageModel):
    """Expects token 1 the more, the more tokens it has seen."""

    @dataclass(frozen=True)
    class Config(Settings): ...

    def __init__(self) -> None:
        super().__init__(self.Config(), DataSpec(12, Lengths.of_text(64)))
        self.one = nn.Parameter(F.one_hot(torch.tensor(1), 12).float())
        self.head = lambda x: x * self.one

    def start(self, rows: int) -> State:
        return torch.zeros(rows, 1, 1)

    def features(self, tokens: Tensor, state: State) -> Features:
        seen = torch.arange(1, tokens.size(1) + 1)[None, :, None] + state  # (B, T, 1)
        return Features(seen / 16, seen[:, -1:])


@pytest.mark.parametrize("arch", LANGUAGE_MODELS)
@torch.no_grad()
def test_a_whole_window_in_sight_is_what_the_model_says_of_it(build: Build, arch: str) -> None:
    """Of a seq2seq that means as it was trained: half a window read, half of it fed."""
    model, text = build(arch).model, tokens(17)
    expected = model(text[:, 8:-1], source=text[:, :8]) if arch == "seq2seq" else model(text[:, :-1])
    cost = F.cross_entropy(expected.logits[:, -1], text[:, -1])
    assert float(last_nats(model, text)) == pytest.approx(float(cost), rel=1e-4)


@pytest.mark.parametrize("arch", LANGUAGE_MODELS)
@torch.no_grad()
def test_what_is_out_of_sight_changes_nothing(build: Build, arch: str) -> None:
    model, ids, at = build(arch).model, tokens(60)[0].numpy(), np.arange(30, 60)
    other = np.concatenate([(ids[:20] + 1) % 12, ids[20:]])
    a, b = (result(nats_by_context(model, text, at, [1, 4, 10, 16])) for text in (ids, other))
    np.testing.assert_allclose(a[:3], b[:3])
    assert not np.allclose(a[3, :4], b[3, :4])


def test_a_model_that_ignores_all_but_the_last_token_gains_nothing(build: Build) -> None:
    model = build("rnn").model
    with torch.no_grad():
        for _, u, _, _ in model.rnn.all_weights:
            u.zero_()
    nats = result(nats_by_context(model, tokens(400)[0].numpy(), np.arange(200, 300), [1, 2, 7, 64, 200]))
    np.testing.assert_allclose(nats, np.broadcast_to(nats[0], nats.shape), rtol=1e-4)


def test_where_every_token_helps_each_score_is_better_than_the_one_before() -> None:
    nats = result(nats_by_context(Counting(), np.ones(100, np.uint8), np.arange(64, 100), powers(64)))
    scores = nats.mean(1)
    assert (np.diff(scores) < -0.01).all()
    assert scores[-1] == pytest.approx(math.log(1 + 11 / math.e**4), rel=1e-4)


@torch.no_grad()
def test_the_score_is_in_bits_per_byte_of_the_tokens_that_were_guessed(trained: Path) -> None:
    """Against a loop that asks the model place by place."""
    Path("other.txt").write_text("PEG:\nThe broth, and the bench, and the tide.\n" * 3, encoding="utf-8")
    found = result(reach(trained, text=Corpus.open(["other.txt"]), positions=20))
    lm = charlm.load(trained)
    ids = lm.tokenizer.encode(Path("other.txt").read_text())
    at = places(len(ids) // 2, len(ids), 20)
    assert [context.tokens for context in found.contexts] == [1, 2, 4, 8, 16, 32, 64, len(ids) // 2]
    for k, score in found.contexts:
        nats = 0.0
        for place in at:
            logits = lm.model(torch.from_numpy(ids[place - k : place])[None]).logits[0, -1]
            nats -= float(logits.log_softmax(0)[ids[place]])
        assert score == pytest.approx(nats / math.log(2) / 20, rel=1e-4)


def test_a_byte_counts_as_a_byte_in_whatever_alphabet(typed: Typed) -> None:
    """A fresh model finds each of 4 characters of two bytes about equally likely: 2 bits, 1 per byte."""
    Path("greek.txt").write_text("αβγδ" * 200, encoding="utf-8")
    made = ["train", "greek.txt", "--steps", "1", "--lr", "0", "--hidden-size", "16", "--quiet", "--out", "run"]
    assert typed(*made)[0] == 0
    for _, score in result(reach("run", positions=50)).contexts:
        assert score == pytest.approx(1, abs=0.15)


def test_places_are_spread_evenly_differ_and_are_always_the_same() -> None:
    found = places(100, 1100, 50)
    assert [place // 20 for place in found] == list(range(5, 55))
    assert (found == places(100, 1100, 50)).all()
    assert places(7, 12, 500).tolist() == [7, 8, 9, 10, 11]
    assert [powers(most) for most in (1, 2, 5, 16)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8, 16]]


@pytest.mark.parametrize(
    ("scores", "enough"),
    [([3, 2, 1.5, 1.499], 4), ([3, 2, 1], 4), ([2, 2, 2], 1), ([3, 2, 2.1, 2.05], 2), ([2, 2, 1], 4)],
)
def test_enough_is_where_no_more_context_gains_a_hundredth(scores: list[float], enough: int) -> None:
    contexts = [Context(1 << n, score) for n, score in enumerate(scores)]
    assert Reach(9, contexts).enough == enough


def test_the_command_shows_a_table_prints_json_and_saves_pictures(typed: Typed, trained: Path) -> None:
    code, out, _ = typed("context", trained, "--positions", "40")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["tokens", "in", "sight", "bits", "per", "byte"]
    assert [line.split()[0] for line in lines[1:9]] == [str(1 << n) for n in range(8)]
    assert " 1 %" in lines[-2]
    assert "40 places" in lines[-1]
    code, out, err = typed("context", trained, "--positions", "40", "--json", "--html", "a.html", "--svg", "a.svg")
    shown = json.loads(out)
    assert shown["contexts"][0].keys() == {"tokens", "bits_per_byte"}
    assert shown["enough"] in [context["tokens"] for context in shown["contexts"]]
    assert "saved a.html" in err
    assert "█" in Path("a.html").read_text(encoding="utf-8")
    assert Path("a.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_command_saves_a_png(typed: Typed, trained: Path) -> None:
    pytest.importorskip("vl_convert")
    assert typed("context", trained, "--positions", "2", "--png", "a.png")[0] == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_a_text_of_one_token_is_refused(typed: Typed, trained: Path) -> None:
    Path("one.txt").write_text("P")
    code, out, err = typed("context", trained, "--text", "one.txt")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the text has 1 tokens; it needs 2 or more" in err
