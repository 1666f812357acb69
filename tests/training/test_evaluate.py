"""The exact evaluation, with models whose answer is known in closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import charlm
from charlm import evaluate as module
from charlm.config import DataSettings, DataSpec, Lengths, Settings
from charlm.evaluate import Score, evaluate, layout, token_nats
from charlm.model import Features, LanguageModel, State
from charlm.objectives import pairs
from charlm.objectives.pairs import batch_tokens
from charlm.plan import Plan
from charlm.progress import result
from charlm.scoring import score_run
from charlm.text.pairs import PairCorpus
from charlm.text.vocabulary import train_tokenizer


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Texts are cut into rows as on this device, and computed on the CPU."""
    lay_out_as_on(request.param, monkeypatch)
    return str(request.param)


def lay_out_as_on(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "layout", lambda model, _: layout(model, torch.device(device)))


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
@pytest.mark.usefixtures("device")
def test_each_token_is_scored_once_in_its_place(size: int, before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPAN", 16)  # so that several blocks are needed
    ids = np.arange(size) % 7
    shares = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    nats = np.concatenate(list(token_nats(Fixed(7, shares), ids, np.zeros(before, dtype=np.int64))))
    np.testing.assert_allclose(nats, -shares.log().numpy()[ids], rtol=1e-5)


@pytest.mark.parametrize("before", [1, 100, 400])
@pytest.mark.usefixtures("device")
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
@pytest.mark.usefixtures("device")
def test_context_is_the_most_that_a_guess_was_made_from(
    size: int, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPAN", 64)
    model, ids = Clock(2, seq_len=8), np.zeros(size, dtype=np.int64)
    nats = np.concatenate(list(token_nats(model, ids, ids[:1].repeat(before))))
    seen = -1000 * np.log(np.expm1(nats.astype(np.float64)))
    context = score_of(model, ids, ids[:1].repeat(before), chars=size, bytes=size).context
    assert context == round(seen.max()) <= before + size - 1


@pytest.mark.parametrize(("arch", "window"), [("transformer", 8), ("transformer", 7), ("seq2seq", 8), ("encdec", 8)])
@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("before", [1, 20])
@pytest.mark.usefixtures("device")
def test_context_is_as_far_back_as_a_change_is_felt(arch: str, window: int, size: int, before: int) -> None:
    """And where a window slides, no guess is made from less than half of it, or all that stands before."""
    model = built(arch, window)
    felt = felt_back(model, np.random.default_rng(0).integers(13, size=before + size), before)
    ids = np.zeros(before + size, dtype=np.int64)
    assert felt.max() == score_of(model, ids[before:], ids[:before], chars=size, bytes=size).context
    assert (felt >= np.minimum(np.arange(size) + before, window // 2 + 1)).all()


def built(arch: str, window: int, **settings: object) -> LanguageModel:
    """A small model whose guesses depend on all that it can see."""
    torch.manual_seed(0)
    model = Plan.of({"arch": arch, "hidden_size": 16, "layers": 1, **settings}).build(
        DataSpec(13, Lengths.of_text(window))
    )
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)  # a fresh transformer looks nowhere
    return model.eval()


def felt_back(model: LanguageModel, text: np.ndarray, before: int) -> np.ndarray:
    """How many tokens back each guess after the first `before` tokens looks: each of these is changed in turn."""

    def nats(text: np.ndarray) -> np.ndarray:
        return np.concatenate(list(token_nats(model, text[before:], text[:before])))

    known, places, felt = nats(text), np.arange(before, len(text)), np.zeros(len(text) - before, dtype=np.int64)
    for at in range(len(text) - 1):
        changed = text.copy()
        changed[at] = (text[at] + 1) % 13
        moved = (places > at) & ~np.isclose(nats(changed), known, rtol=1e-6, atol=1e-7)
        felt = np.maximum(felt, np.where(moved, places - at, 0))
    return felt


def test_the_context_of_pairs_is_the_source_and_the_target_so_far(translator: Path) -> None:
    pairs = translator.parent / "few.tsv"
    pairs.write_text("abc\tcba\nabcdab\tbadcba\nab\tba\n")
    assert result(score_run(translator, corpus=PairCorpus.open([pairs]))).score["context"] == 7 + 7


def test_pairs_cost_the_same_in_the_batches_of_a_gpu(translator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = []
    for device in map(torch.device, ("cpu", "cuda")):
        monkeypatch.setattr(pairs, "batch_tokens", lambda size, _, device=device: batch_tokens(size, device))
        scores.append(result(score_run(translator)).score["bits_per_byte"])
        monkeypatch.setattr(module, "LOGITS", 1)  # so that the head reads one place after the other
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_blank_page_scores_the_very_first_character_too(trained: Path) -> None:
    lm = charlm.load(trained)
    score = result(lm.scoring("WICK:\nThe lamp"))
    assert score.tokens == score.chars == 14
    nats = list(token_nats(lm.model, lm.tokenizer.encode("WICK:\nThe lamp"), np.array([lm.tokenizer.start])))
    assert score.nats_per_token == pytest.approx(float(np.concatenate(nats).mean()), rel=1e-6)


@pytest.mark.parametrize("arch", ["transformer", "reformer", "seq2seq", "encdec"])
@pytest.mark.parametrize("window", [7, 8])
@torch.no_grad()
def test_a_blank_page_and_the_lead_in_are_what_a_slide_leaves(arch: str, window: int) -> None:
    """So a window that is read by itself says of its newer half what a long text says."""
    model: Any = built(arch, window)
    text = torch.randint(13, (1, 40), generator=torch.Generator().manual_seed(0))
    whole, fresh = model(text).logits, window - window // 2
    assert model.lead_in is not None
    for slide in range(model.capacity, 40 - fresh, fresh):
        alone = model(text[:, slide - model.lead_in : slide + fresh]).logits
        torch.testing.assert_close(alone[:, -fresh:], whole[:, slide : slide + fresh])


@pytest.mark.parametrize(
    ("arch", "settings"),
    [("lstm", {}), ("lstmcell", {}), ("gru", {}), ("transformer-xl", {"memory": 4, "eval_memory": 20})],
)
def test_a_gpu_scores_as_a_cpu_does_what_needs_only_so_much_to_warm_up(
    arch: str, settings: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = built(arch, 16, **settings), np.random.default_rng(0).integers(13, size=5000)
    nats = {}
    for device in ("cpu", "cuda"):
        lay_out_as_on(device, monkeypatch)
        nats[device] = np.concatenate(list(token_nats(model, ids[100:], ids[:100])))
    np.testing.assert_allclose(nats["cuda"], nats["cpu"], rtol=1e-4, atol=1e-4)


class Operations(TorchDispatchMode):
    """Counts operations, but not views, of which a GPU knows nothing."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("arch", ["lstm", "lstmcell", "transformer", "transformer-xl", "reformer", "seq2seq", "encdec"])
def test_scoring_a_text_on_a_gpu_takes_few_operations(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launching one takes some 25 microseconds there, whatever it computes."""
    lay_out_as_on("cuda", monkeypatch)
    heads = {} if arch in ("lstm", "lstmcell", "seq2seq") else {"heads": 1}
    plan = Plan.of({"arch": arch, "hidden_size": 4, **heads})
    model: Any = plan.build(DataSpec(5, plan.lengths))
    ids = np.arange(40_000) % 5
    with Operations() as operations:
        score_of(model, ids, ids[:3000], chars=len(ids), bytes=len(ids))
    assert operations.count < 2000
