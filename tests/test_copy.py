"""Copying from the source: by the equations of its papers, by the laws of every model that reads a source, and what it
is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_archs as laws
import torch
from torch import Tensor

from charlm import archs, objectives
from charlm.archs.seq2seq import Seq2Seq
from charlm.config import DataSpec, Lengths, TrainSettings, take
from charlm.device import training_problem
from charlm.errors import SettingsError
from charlm.model import PAD
from charlm.objectives._base import summed_nats
from charlm.progress import result
from charlm.quantize import Int8Linear, quantize
from charlm.sampling.beam import Search, beam_search
from charlm.text.buckets import Buckets, EncodedLines
from charlm.text.pair_store import PairSettings
from charlm.text.tokenizers import Tokenizer
from charlm.text.vocabulary import Vocabularies, train_tokenizer
from charlm.training.loop import Trainer
from charlm.training.optim import build_optimizers

Typed = Callable[..., tuple[int, str, str]]

SPEC = DataSpec(11, Lengths.of_text(16))
TWO = SPEC._replace(source_vocab_size=14, twins=np.array([3, 0, PAD, 7, 7, 1, 10, 2, PAD, 4, 5, 6, 8, 9]))
every_kind = pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("seq2seq", {"attention": "additive"}),
        ("seq2seq", {"input_feeding": True, "embedding_size": 5, "bidirectional": False}),
        ("encdec", {"layers": 2}),
        ("encdec", {"norm_place": "pre", "tied": False}),
    ],
    ids=["seq2seq", "input-feeding", "encdec", "pre"],
)
both = pytest.mark.parametrize("arch", ["seq2seq", "encdec"])


def build(arch: str, spec: DataSpec = SPEC, **changes: Any) -> Any:
    return laws.build(arch, spec, copy=True, **changes)


def tokens(batch: int, length: int, seed: int = 0, vocab_size: int = SPEC.vocab_size) -> Tensor:
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def sources(lengths: list[int], vocab_size: int = SPEC.vocab_size) -> Tensor:
    """Random rows of these lengths (B, S)."""
    table = tokens(len(lengths), max(lengths), 3, vocab_size)
    return table.where(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None], PAD)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def linear(layer: Any, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def by_the_paper(model: Any, source: Tensor, target: Tensor, twins: list[int]) -> Tensor:
    """Probabilities (T, V) of one source and one target, by a sum over the places of the source. What attention and
    decoder say is held to their own papers elsewhere."""
    alpha = model.attention_weights(target, source)[-1].mean(0)  # (T, S)
    if isinstance(model, Seq2Seq):
        steps = model.decode(target[None], model.read(source[None]))[0]
        context = alpha @ model.read(source[None]).source.annotations[0]
        vectors, seen = steps.attentional[0], torch.cat([context, steps.hidden[0], steps.inputs[0]], -1)
    else:
        vectors = model.features(target[None], model.read(source[None])).hidden[0, :, : model.config.hidden_size]
        seen = torch.cat([vectors, model.embedded(target[None], model.embed, slice(len(target)))[0]], -1)
    rows = []
    for t in range(len(target)):
        g = torch.sigmoid(linear(model.head.gate, seen[t]))
        guess = linear(model.head.guess, vectors[t]).softmax(0)
        p, possible = torch.zeros(len(guess)), 0.0
        for place, id in enumerate(source.tolist()):
            if twins[id] != PAD:
                p[twins[id]] += (1 - g[0]) * alpha[t, place]
                possible += float(alpha[t, place])
        rows.append(p + (g + (1 - g) * (1 - possible)) * guess)
    return torch.stack(rows)


@every_kind
@pytest.mark.parametrize("spec", [SPEC, TWO], ids=["one vocabulary", "two"])
@torch.no_grad()
def test_guessing_and_copying_are_mixed_as_the_paper_says(arch: str, changes: dict[str, Any], spec: DataSpec) -> None:
    """Places that hold one token add up; what the target's vocabulary lacks is guessed; in a batch, with padding."""
    model, target = build(arch, spec, **changes), tokens(3, 6)
    source = sources([7, 3, 8], spec.source_vocab_size or spec.vocab_size)
    source[0, :3] = source[0, 0]
    probabilities = model(target, source=source).logits.exp()
    twins = list(range(11)) if spec.twins is None else spec.twins.tolist()
    for row in range(3):
        close(probabilities[row], by_the_paper(model, source[row][source[row] != PAD], target[row], twins))


@every_kind
@torch.no_grad()
def test_they_are_probabilities_wherever_the_gate_stands(arch: str, changes: dict[str, Any]) -> None:
    model, target, source = build(arch, TWO, **changes), tokens(2, 6), sources([5, 2], 14)
    for bias in (-200.0, 0.0, 200.0):
        model.head.gate.bias.fill_(bias)
        logits = model(target, source=source).logits
        close(logits.logsumexp(-1), torch.zeros(2, 6))
    close(logits, model.head.guess(model.features(target, model.read(source)).hidden[..., :16]).log_softmax(-1))


@every_kind
def test_where_nothing_can_be_copied_all_is_guessed(arch: str, changes: dict[str, Any]) -> None:
    """On a blank page, of tokens that the target's vocabulary lacks, and in a row of padding; in the gradient, too."""
    model, target = build(arch, TWO, **changes), tokens(2, 6)
    for source in (target[:, :0], torch.full((2, 3), 2), torch.tensor([[PAD, PAD], [2, 8]])):
        hidden = model.features(target, model.read(source)).hidden
        close(model.head(hidden), model.head.guess(hidden[..., :16]).log_softmax(-1))
        model.zero_grad()
        summed_nats(model.head(hidden), target).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("arch", ["seq2seq", "encdec"])
@pytest.mark.parametrize(
    "law",
    [
        laws.test_its_stages_hold_every_weight_from_the_embedding_to_the_head,
        laws.test_symbols_can_be_fed_and_are_never_guessed,
        laws.test_every_parameter_learns,
        partial(laws.test_text_in_pieces_means_the_same_as_text_at_once, read=0, grad=True),
        partial(laws.test_text_in_pieces_means_the_same_as_text_at_once, read=16, grad=False),
        partial(laws.test_text_in_pieces_means_the_same_as_text_at_once, read=40, grad=False),
        laws.test_a_blank_page_is_where_a_text_begins,
        laws.test_a_state_may_be_used_twice,
        laws.test_two_steppers_of_one_state_do_not_disturb_each_other,
        laws.test_no_guess_sees_the_future,
        laws.test_what_is_carried_is_batch_first_cut_from_the_graph_and_of_the_shapes_of_a_blank_page,
        laws.test_a_row_does_not_depend_on_its_batch,
        partial(laws.test_writing_goes_on_past_the_window, prompt=4),
        laws.test_hearing_itself_is_learning_too,
        laws.test_padding_a_source_changes_nothing,
    ],
    ids=lambda law: getattr(law, "func", law).__name__.removeprefix("test_"),
)
def test_the_laws_hold(arch: str, law: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(laws.SMALL, "copy", True)
    law(arch=arch)


@both
@pytest.mark.parametrize("settings", [{}, {"optimizer": "muon", "precision": "bf16"}])
def test_a_training_goes_on_bit_for_bit(
    arch: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(laws.SMALL, "copy", True)
    laws.test_stopping_and_resuming_changes_nothing(arch, settings, tmp_path)


@both
@torch.no_grad()
def test_bf16_rounds_the_guess_and_the_attention_alone(arch: str) -> None:
    """What is mixed stays a distribution."""
    model, target, source = build(arch), tokens(2, 6), sources([5, 2])
    with torch.enable_grad():
        problem = training_problem(model, "bf16", lambda: model(target, source=source).logits.sum())
    if problem:  # this processor has no such layers, and so is refused
        return
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(target, source=source).logits
    assert logits.dtype == torch.float
    close(logits.logsumexp(-1), torch.zeros(2, 6))
    torch.testing.assert_close(logits, model(target, source=source).logits, atol=0.1, rtol=0.05)


@both
@torch.no_grad()
def test_int8_rounds_the_guess_too(arch: str) -> None:
    model = build(arch, hidden_size=32)
    if arch == "seq2seq":  # most of its weights are those of an LSTM
        with pytest.raises(SettingsError, match="--quantize int8 rounds linear layers"):
            quantize(model)
        return
    target, source = tokens(2, 6), sources([5, 2])
    exact = model(target, source=source).logits
    quantize(model)
    assert isinstance(model.head.guess, Int8Linear)
    torch.testing.assert_close(model(target, source=source).logits, exact, atol=0.2, rtol=0.05)


@both
@torch.no_grad()
def test_a_fresh_model_knows_the_unigram_distribution_and_hardly_copies(arch: str) -> None:
    counts = np.arange(1, 12) ** 3
    share = torch.from_numpy(counts / counts.sum()).float()
    torch.manual_seed(0)
    kind = archs.load(arch)
    model = kind(kind.Config(copy=True), SPEC._replace(counts=counts)).eval()
    target = torch.multinomial(share, 600, replacement=True).view(40, 15)
    nats = summed_nats(model(target[:, 4:-1], source=target[:, :4]).logits, target[:, 5:]) / 400
    assert float(nats) == pytest.approx(float(-share.log()[target[:, 5:]].mean()), abs=0.1)


def test_a_token_is_copied_as_the_one_with_the_same_bytes() -> None:
    def alphabet(text: str) -> Tokenizer:
        return result(train_tokenizer(PairSettings(tokenizer="char"), lambda: iter([text])))

    german, english = alphabet("bäcker\n"), alphabet("rake\n")
    spec = Vocabularies(german, english).spec(Lengths.of_pairs(8))
    assert spec.twins is not None
    same = {german.decode([id]): english.decode([twin]) for id, twin in enumerate(spec.twins.tolist()) if twin != PAD}
    assert same == {character: character for character in "ekr\n"}
    assert (spec.twins == PAD).sum() == 3  # ä, b, c
    assert Vocabularies(english, english).spec(Lengths.of_pairs(8)).twins is None


@both
def test_pairs_from_the_command_line(arch: str, typed: Typed) -> None:
    """Two vocabularies: trained, resumed, scored, translated by a beam, and looked into."""
    Path("a.tsv").write_text("".join(f"wer ist Al{c}?\t{c}la\n" for c in "bcdefghijklmnopqrstuvwxyz"))
    small = ("--hidden-size", "32", "--tokenizer", "char", "--steps", "40", "--out", "run")
    code, _, why = typed("train", "a.tsv", "--arch", arch, "--copy", *small, "--stop-after", "20")
    assert code == 0, why
    assert typed("train", "--resume", "run")[0] == 0
    Path("b.tsv").write_text("ist Al\tla\nist Alz\tzla\n")
    assert json.loads(typed("eval", "run", "--pairs", "b.tsv", "--beam", "3", "--json")[1])["pairs"] == 2
    found = json.loads(typed("attend", "run", "--source", "ist Al", "--text", "la", "--json")[1])
    assert found["rows"] == ["l", "a", "\n"]
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in found["weights"])


@both
def test_running_text_from_the_command_line(arch: str, verses: Path, typed: Typed) -> None:
    small = ("--hidden-size", "32", "--steps", "10", "--out", "run")
    code, _, why = typed("train", verses, "--arch", arch, "--copy", *small)
    assert code == 0, why
    for command in (["sample", "run", "--length", "200"], ["explain", "run", "--prompt", "WICK"]):
        assert typed(*command)[0] == 0
    said = json.loads(typed("explain", "run", "--prompt", "WICK", "--json")[1])
    assert sum(said["stages"][0]["probabilities"]) + said["stages"][0]["rest"] == pytest.approx(1, abs=1e-5)
    assert typed("score", "run", verses)[0] == 0


def test_without_attention_nothing_says_what_to_copy(verses: Path, typed: Typed) -> None:
    code, out, error = typed("train", verses, "--arch", "seq2seq", "--attention", "none", "--copy")
    assert (code, out) == (2, "")
    assert "--copy copies where attention looks, so not with --attention none; give additive, dot or general" in error
    assert error.count("\n") == 1
    assert "--copy belongs to encdec, seq2seq" in typed("train", verses, "--arch", "lstm", "--copy")[2]


def introductions(number: int, words: range, seed: int) -> tuple[EncodedLines, EncodedLines]:
    """1 and 2 in any order, each with a word behind it; asked for are the words in the order of 1 and 2."""
    rng = np.random.default_rng(seed)
    lines = [(*rng.choice(words, 2), rng.integers(2)) for _ in range(number)]
    sources = [[2, b, 1, a, 0] if turned else [1, a, 2, b, 0] for a, b, turned in lines]
    targets = [[a, b, 0] for a, b, _ in lines]
    source, target = (
        EncodedLines(np.concatenate(rows).astype(np.uint8), np.arange(number + 1) * len(rows[0]))
        for rows in (sources, targets)
    )
    return source, target


@both
def test_words_that_no_target_had_are_copied_and_cannot_be_guessed(arch: str) -> None:
    right = {}
    for copy in (False, True):
        torch.manual_seed(0)
        settings = take(archs.load(arch).Config, {**laws.SMALL, "hidden_size": 32, "copy": copy})
        model = archs.load(arch)(settings, DataSpec(250, Lengths.of_pairs(6)))
        train = TrainSettings(steps=130, lr=7e-3, warmup=0.1)
        known = Buckets.of_pairs(*introductions(600, range(3, 200), seed=0), batch_tokens=160, seed=0)
        list(Trainer(model, known, build_optimizers(model, train), train, objective=objectives.load("pairs")()))
        source, target = introductions(50, range(200, 250), seed=1)
        lines = torch.from_numpy(source.ids.astype(np.int64)).view(50, 5)
        written = [best.ids for best, *_ in beam_search(model.eval(), lines, Search(0, 6, beams=2))]
        right[copy] = sum(ids == target[n].tolist()[:-1] for n, ids in enumerate(written))
    assert right[False] == 0
    assert right[True] >= 25, right
