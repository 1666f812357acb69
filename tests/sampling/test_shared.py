"""Several models with the same chance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import charlm
from charlm.sampling.settings import Request, SampleSettings
from charlm.sampling.shared import SharedPicker
from charlm.text.tokenizers import ByteTokenizer, CharTokenizer
from charlm.writer import Writer

Typed = Callable[..., tuple[int, str, str]]


def picker(tokens: list[bytes], seed: int = 0) -> SharedPicker:
    return SharedPicker(SampleSettings("1"), seed, tokens)


def test_a_token_has_the_same_noise_in_every_vocabulary() -> None:
    few, many = CharTokenizer([ord(c) for c in "zebra"], spell=False).tokens, ByteTokenizer().tokens
    one, other = picker(few), picker(many)
    for _ in range(20):
        noise = one.gumbel(torch.zeros(1, len(few)))[0]
        theirs = other.gumbel(torch.zeros(1, len(many)))[0]
        assert noise.tolist() == [theirs[many.index(token)] for token in few]
        best = few[int(one(torch.zeros(1, len(few))))]
        logits = torch.full((1, len(many)), -torch.inf)
        logits[0, [many.index(token) for token in few]] = 0
        assert many[int(other(logits))] == best  # alike in their guesses, they write alike


def test_frequencies_follow_the_shares() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    pick = picker([b"a", b"b", b"c", b"d"], seed=3)
    counts = np.bincount([int(pick(logits)) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_a_run_beside_itself_writes_the_same_text(typed: Typed, trained: Path) -> None:
    words = ["sample", trained, trained, "--side-by-side", "--length", "60", "--prompt", "PEG:", "--seed", "7"]
    one, other = json.loads(typed(*words, "--json")[1])
    assert one["text"] == other["text"]
    assert len(one["text"]) == len(one["tokens"]) == 60
    assert one["run"] == str(trained)
    code, out, _ = typed(*words)
    assert code == 0
    assert out.count(str(trained)) == 2
    assert out.count(one["text"].split("\n")[0]) >= 2


def test_twins_differ_less_with_the_same_chance(trained: Path, twin: Path) -> None:
    """Share of equal characters, position by position, over many short beginnings."""
    one, other = charlm.load(trained), charlm.load(twin)

    def text(lm: Writer, seed: int) -> str:
        made = lm.pieces(Request("1", prompt="PEG:\n", length=12, seed=seed), shared=True)
        return "".join(piece.texts[0] for piece in made)

    def equal(offset: int) -> float:
        pairs = [(text(one, seed), text(other, seed + offset)) for seed in range(30)]
        return float(np.mean([a == b for pair in pairs for a, b in zip(*pair, strict=True)]))

    assert equal(0) > equal(1000) + 0.2


def test_several_runs_need_side_by_side(typed: Typed, trained: Path) -> None:
    for words, message in [
        ([trained, trained], "2 runs were given; add --side-by-side"),
        ([trained, trained, "--side-by-side", "--samples", "2"], "leave --samples out"),
        ([trained, "--side-by-side", "--length", "0"], "--length 0 writes one text without end"),
    ]:
        code, out, err = typed("sample", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
