"""The exact evaluation, with models whose answer is known in closed form."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import charlm
from charlm import evaluate as module
from charlm.config import DataSettings, DataSpec, Lengths, Settings
from charlm.evaluate import Score, evaluate, token_nats
from charlm.model import Features, LanguageModel, State
from charlm.plan import Plan
from charlm.progress import result
from charlm.scoring import score_run
from charlm.text.pairs import PairCorpus
from charlm.text.vocabulary import train_tokenizer


class Fixed(LanguageModel):
    """Gives every token the same share: of `shares` if given, else of the vocabulary."""

    Config = Settings

    def __init__(self, vocab_size: int, shares: Tensor | None = None, seq_len: int = 8) -> None:
        super().__init__(Settings(), DataSpec(vocab_size, Lengths.of_text(seq_len)))
        self.logits = nn.Parameter(torch.zeros(vocab_size) if shares is None else shares.log())
        self.head = lambda hidden: hidden

    def start(self, rows: int) -> State:
        return torch.zeros(rows, 1)

    def features(self, tokens: Tensor, state: State) -> Features:
        return Features(self.logits.expand(*tokens.shape, -1), state)


class Clock(Fixed):
    """Counts the tokens it was fed and is sure of nothing: its state says how far back it could have looked."""

    def features(self, tokens: Tensor, state: State) -> Features:
        seen = state + torch.arange(1, tokens.size(1) + 1)
        return Features(torch.stack([seen / 1000, torch.zeros_like(seen)], -1), seen[:, -1:])

    @property
    def window(self) -> None:
        return None


def score_of(model: LanguageModel, ids: np.ndarray, before: np.ndarray, *, chars: int, bytes: int) -> Score:
    return result(evaluate(model, ids, before, chars=chars, bytes=bytes))


TEXT = "Käse und Brot, ☃ und noch mehr Käse.\n" * 40


@pytest.mark.parametrize("kind", ["char", "byte", "word", "bpe", "bytebpe", "unigram"])
def test_a_uniform_model_costs_log_v_bits_per_token_whatever_the_tokenizer(kind: str) -> None:
    tokenizer = result(train_tokenizer(DataSettings(tokenizer=kind, vocab_size=300), lambda: iter([TEXT])))  # type: ignore[arg-type]
    ids, size = tokenizer.encode(TEXT), len(TEXT.encode())
    score = score_of(Fixed(tokenizer.vocab_size), ids, ids[:1], chars=len(TEXT), bytes=size)
    assert score.value == pytest.approx(len(ids) * math.log2(tokenizer.vocab_size) / size, rel=1e-6)
    assert score.nats_per_token == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-6)
    assert score.nats_per_char == pytest.approx(score.value * math.log(2) * size / len(TEXT), rel=1e-6)
    assert (score.tokens, score.chars, score.bytes) == (len(ids), len(TEXT), size)


def test_a_model_that_knows_the_shares_costs_their_entropy() -> None:
    shares = torch.tensor([0.5, 0.25, 0.125, 0.125])
    ids = np.repeat([0, 0, 0, 0, 1, 1, 2, 3], 50)
    score = score_of(Fixed(4, shares), ids, ids[:1], chars=len(ids), bytes=len(ids))
    assert score.value == pytest.approx(1.75, rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 63, 500, 3001])
@pytest.mark.parametrize("before", [1, 5, 300])
def test_each_token_is_scored_once_in_its_place(size: int, before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPAN", 16)  # so that several blocks are needed
    ids = np.arange(size) % 7
    shares = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    nats = np.concatenate(list(token_nats(Fixed(7, shares), ids, np.zeros(before, dtype=np.int64))))
    np.testing.assert_allclose(nats, -shares.log().numpy()[ids], rtol=1e-5)


@pytest.mark.parametrize("before", [1, 100, 400])
def test_no_guess_is_made_from_less_than_the_warm_up_or_all_that_there_is(
    before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPAN", 64)
    ids = np.zeros(9000, dtype=np.int64)
    nats = np.concatenate(list(token_nats(Clock(2, seq_len=8), ids, ids[:before])))
    seen = -1000 * np.log(np.expm1(nats.astype(np.float64)))  # from the cost of token 0 back to how much was fed
    assert len(seen) == 9000
    assert (seen > np.minimum(np.arange(9000) + before, 256) - 1).all()


@pytest.mark.parametrize("size", [1, 16, 255, 257, 9000])
@pytest.mark.parametrize("before", [1, 100, 400])
def test_context_is_the_most_that_a_guess_was_made_from(
    size: int, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPAN", 64)
    model, ids = Clock(2, seq_len=8), np.zeros(size, dtype=np.int64)
    nats = np.concatenate(list(token_nats(model, ids, ids[:1].repeat(before))))
    seen = -1000 * np.log(np.expm1(nats.astype(np.float64)))
    context = score_of(model, ids, ids[:1].repeat(before), chars=size, bytes=size).context
    assert context == round(seen.max()) <= before + size - 1


@pytest.mark.parametrize("arch", ["transformer", "seq2seq", "encdec"])
@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("before", [1, 20])
def test_context_is_as_far_back_as_a_change_is_felt(arch: str, size: int, before: int) -> None:
    """Each token before a guess is changed in turn, for models with a window."""
    torch.manual_seed(0)
    model = Plan.of({"arch": arch, "hidden_size": 16, "layers": 1}).build(DataSpec(13, Lengths.of_text(8)))
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)  # a fresh transformer looks nowhere
    text = np.random.default_rng(0).integers(13, size=before + size)

    def nats(text: np.ndarray) -> np.ndarray:
        return np.concatenate(list(token_nats(model, text[before:], text[:before])))

    known, felt = nats(text), 0
    for at in range(before + size - 1):
        changed = text.copy()
        changed[at] = (text[at] + 1) % 13
        later = np.arange(before, before + size) > at
        moved = np.flatnonzero(later & ~np.isclose(nats(changed), known, rtol=1e-6, atol=1e-7))
        felt = max([felt, *(moved + before - at)])
    assert felt == score_of(model, text[before:], text[:before], chars=size, bytes=size).context


def test_the_context_of_pairs_is_the_source_and_the_target_so_far(translator: Path) -> None:
    pairs = translator.parent / "few.tsv"
    pairs.write_text("abc\tcba\nabcdab\tbadcba\nab\tba\n")
    assert result(score_run(translator, corpus=PairCorpus.open([pairs]))).score["context"] == 7 + 7


def test_a_blank_page_scores_the_very_first_character_too(trained: Path) -> None:
    lm = charlm.load(trained)
    score = lm.score("WICK:\nThe lamp")
    assert score.tokens == score.chars == 14
    nats = list(token_nats(lm.model, lm.tokenizer.encode("WICK:\nThe lamp"), np.array([lm.tokenizer.start])))
    assert score.nats_per_token == pytest.approx(float(np.concatenate(nats).mean()), rel=1e-6)
