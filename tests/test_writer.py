"""`charlm.load(...)`: what Python scripts rely on."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import charlm
from charlm.errors import SettingsError, VocabularyError
from charlm.sampling import generate
from charlm.sampling.settings import Request


def test_streamed_text_is_returned_text(trained: Path) -> None:
    lm = charlm.load(trained)
    pieces = list(islice(lm.stream("WICK:", temperature=0.7, seed=3), 80))
    assert "".join(pieces) == lm.sample("WICK:", length=80, temperature=0.7, seed=3)
    assert lm.sample("WICK:", length=80, temperature=0.7, seed=4) != "".join(pieces)


def test_a_device_may_write_ahead_of_what_is_fetched(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, request = charlm.load(trained), Request("0.7", prompt="WICK", length=25, samples=2, seed=5)
    one_by_one = [(p.texts, p.logprobs.tolist()) for p in lm.pieces(request)]
    assert len(one_by_one) == 25
    monkeypatch.setitem(generate.AHEAD, "cpu", 10)
    assert [(p.texts, p.logprobs.tolist()) for p in lm.pieces(request)] == one_by_one


def test_one_token_at_a_time_without_end(trained: Path) -> None:
    pieces = list(islice(charlm.load(trained).stream(), 300))
    assert len(pieces) == 300
    assert all(len(piece) == 1 for piece in pieces)  # a char model's token is a character


def test_model_and_tokenizer_are_open_to_use(trained: Path) -> None:
    lm = charlm.load(trained)
    ids = torch.from_numpy(lm.tokenizer.encode("The lamp"))[None]
    out = lm.model(ids)
    assert out.logits.shape == (1, 8, lm.tokenizer.vocab_size)
    more = lm.model(torch.from_numpy(lm.tokenizer.encode(" is out"))[None], out.state)
    assert more.logits.shape == (1, 7, lm.tokenizer.vocab_size)
    assert lm.tokenizer.decode(ids[0].tolist()) == "The lamp"


def test_a_trained_model_finds_its_text_likelier_than_noise(trained: Path) -> None:
    lm = charlm.load(trained)
    own, noise = lm.score("WICK:\nThe lamp is out, the tide is in"), lm.score("lpm eT\nishd tn:Wt ieah,i  eCIKut")
    assert own.bits_per_byte < 0.7 * noise.bits_per_byte


def test_the_log_probabilities_are_the_models_own_before_any_filter(trained: Path) -> None:
    lm = charlm.load(trained)
    made = list(lm.pieces(Request("0.3", top_k=2, prompt="PEG:", length=20)))
    text = "".join(piece.texts[0] for piece in made)
    ids = torch.from_numpy(lm.tokenizer.encode("PEG:" + text))[None]
    with torch.no_grad():
        shares = lm.model(ids[:, :-1]).logits.log_softmax(-1).gather(2, ids[:, 1:, None])[0, 3:, 0]
    np.testing.assert_allclose([float(piece.logprobs[0]) for piece in made], shares.numpy(), atol=1e-4)


def test_rows_of_a_batch_differ_and_greedy_rows_do_not(trained: Path) -> None:
    lm = charlm.load(trained)

    def rows(temperature: str) -> set[str]:
        made = list(lm.pieces(Request(temperature, samples=4, length=40)))
        return {"".join(piece.texts[row] for piece in made) for row in range(4)}

    assert len(rows("1.0")) == 4
    assert len(rows("0")) == 1


def test_the_repetition_penalty_breaks_a_loop(trained: Path) -> None:
    lm = charlm.load(trained)
    looping = lm.sample("WICK:", length=200, temperature=0.0)
    freed = lm.sample("WICK:", length=200, temperature=0.0, repetition_penalty=3.0)
    passages = [{text[at : at + 10] for at in range(100, 190)} for text in (looping, freed)]
    assert 2 * len(passages[0]) < len(passages[1])


@pytest.mark.parametrize("temperature", [0.0, 0.01, 100.0])
def test_any_temperature_writes(trained: Path, temperature: float) -> None:
    assert len(charlm.load(trained).sample("", length=10, temperature=temperature)) == 10


def test_a_prompt_longer_than_any_window_is_read(trained: Path) -> None:
    assert len(charlm.load(trained).sample("The lamp is out. " * 500, length=5)) == 5


def test_unknown_characters_and_empty_texts_are_refused(trained: Path) -> None:
    lm = charlm.load(trained)
    with pytest.raises(VocabularyError, match=r"U\+2603"):
        lm.sample("☃")
    with pytest.raises(SettingsError, match="it is empty"):
        lm.score("")
    assert not math.isnan(lm.score("W").bits_per_byte)
