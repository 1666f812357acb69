"""The law book: what holds for every architecture. A new file in charlm/archs/ is tested with no edit here."""

from __future__ import annotations

import copy
import importlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from charlm import archs
from charlm.config import DataSpec, TrainSettings, fields_of, take
from charlm.device import choose_precision, hindrance
from charlm.errors import SettingsError
from charlm.model import PAD, LanguageModel, State
from charlm.objectives import OBJECTIVES, summed_nats
from charlm.runs import checkpoint
from charlm.sampling.filters import Picker
from charlm.sampling.generate import generate
from charlm.sampling.noise import streams
from charlm.sampling.settings import SampleSettings
from charlm.text.buckets import Buckets, Lines
from charlm.text.windows import Windows
from charlm.training.evaluate import token_nats
from charlm.training.loop import Trainer, listen
from charlm.training.optim import build_optimizers

SPEC = DataSpec(vocab_size=11, seq_len=16)
SMALL = {"layers": 2, "hidden_size": 16, "heads": 2, "dropout": 0.0}

pytestmark = pytest.mark.parametrize("arch", archs.names())


def build(arch: str, spec: DataSpec = SPEC, **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    kind = archs.load(arch)
    model = kind(take(kind.Config, {**SMALL, **changes}), spec).eval()
    with torch.no_grad():  # branches that start at zero would make some laws too easy to keep
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def tokens(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(SPEC.vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def tensors(state: State) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, tuple):
        for part in state:
            yield from tensors(part)


def trainer(arch: str, *, steps: int, changes: dict[str, Any] | None = None, **settings: Any) -> Trainer:
    """A training of a small model on a text in which 7 tokens repeat with some surprises."""
    values = {"batch_size": 4, "seq_len": 16, "lr": 1e-2, "steps": steps, "warmup": 0.0, "schedule": "constant"}
    s = take(TrainSettings, {**values, **settings})
    text = np.where(np.arange(331) % 13 == 5, np.arange(331) % 5, np.arange(331) % 7).astype(np.uint8)
    windows = Windows(text, batch_size=s.batch_size, seq_len=s.seq_len, order=s.order, seed=s.seed)
    model = build(arch, **(changes or {}))
    if s.precision == "bf16" and hindrance(model, "bf16"):
        s = replace(s, precision="fp32")  # what it says is then said of fp32
    average = copy.deepcopy(model).requires_grad_(False) if s.ema else None
    return Trainer(model, windows, build_optimizers(model, s), s, average=average)


def backwards() -> tuple[Lines, Lines]:
    """24 lines of 1 to 5 tokens, and the same backwards; token 0 is their newline."""
    rng = np.random.default_rng(0)
    lines = [rng.integers(1, SPEC.vocab_size, 1 + n % 5) for n in range(24)]
    ends = np.concatenate([[0], np.cumsum([len(line) + 1 for line in lines])])
    joined = [np.concatenate([np.append(line[::way], 0) for line in lines]).astype(np.uint8) for way in (1, -1)]
    return Lines(joined[0], ends), Lines(joined[1], ends)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [11, 5000])
@torch.no_grad()
def test_a_fresh_model_guesses_each_token_as_often_as_the_text_has_it(arch: str, size: int) -> None:
    """On a blank page, and on average along a text: its loss is the unigram's, whatever the vocabulary."""
    rng = np.random.default_rng(0)
    counts = np.floor(1e6 / np.arange(1, size + 1))[rng.permutation(size)].astype(np.int64)
    share = torch.from_numpy(counts / counts.sum())
    torch.manual_seed(0)
    kind = archs.load(arch)
    model = kind(kind.Config(), DataSpec(size, 16, counts=counts)).eval()
    blank = model(torch.zeros(1, 1, dtype=torch.long)).logits[0, 0].double().log_softmax(-1)
    assert float((share * (share.log() - blank)).sum()) < 0.1
    text = torch.from_numpy(rng.choice(size, (20, 51), p=share.numpy()))
    nats = summed_nats(model(text[:, :-1]).logits, text[:, 1:]) / 1000
    assert float(nats) == pytest.approx(float(-share.log()[text[:, 1:]].mean()), abs=0.1)


def test_a_guess_for_every_token(arch: str) -> None:
    out = build(arch)(tokens(3, 10))
    assert out.logits.shape == (3, 10, SPEC.vocab_size)


@pytest.mark.parametrize("read", [0, 3, 16, 40])
@torch.no_grad()
def test_text_in_pieces_means_the_same_as_text_at_once(arch: str, read: int) -> None:
    """The streaming law, from nothing and from something read, within the window and far past it."""
    model, text = build(arch), tokens(2, 45, seed=1)
    start = lambda: model.read(tokens(2, read)) if read else None  # noqa: E731  # a state is used once
    whole = model.features(text, start()).hidden
    for cuts in ([7], [1, 2, 16, 17], list(range(1, 45))):
        state, parts = start(), []
        for piece in torch.tensor_split(text, cuts, dim=1):
            out = model.features(piece, state)
            state = out.state
            parts.append(out.hidden)
        close(torch.cat(parts, 1), whole)


@torch.no_grad()
def test_a_step_is_features_of_one_token(arch: str) -> None:
    """From nothing and from a state that was read, for one row and for two, within the window and past it."""
    for rows, read in itertools.product((1, 2), (0, 5, 30)):
        model, text = build(arch), tokens(rows, 40)
        start = lambda: model.read(tokens(rows, read, seed=7)) if read else None  # noqa: B023, E731
        expected, state, step = model.head(model.features(text, start()).hidden), start(), model.stepper(rows)
        for t in range(text.size(1)):
            logits, state = step(text[:, t], state)
            close(logits, expected[:, t])


@torch.no_grad()
def test_no_guess_sees_the_future(arch: str) -> None:
    model, text = build(arch), tokens(2, 14)
    changed = text.clone()
    changed[:, 8] = (changed[:, 8] + 1) % SPEC.vocab_size
    before, after = model(text).logits, model(changed).logits
    close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:], atol=1e-4)


def test_state_is_batch_first_and_what_is_carried_is_cut_from_the_graph(arch: str) -> None:
    model = build(arch)
    state = model(tokens(3, 9)).state
    assert all(t.size(0) == 3 for t in tensors(state))
    assert not any(t.requires_grad for t in tensors(model.carry(state)))


@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(arch: str) -> None:
    model, text, source = build(arch), tokens(4, 10), tokens(4, 8, seed=3)
    together = model(text, source=source).logits
    for row in range(4):
        close(model(text[row : row + 1], source=source[row : row + 1]).logits, together[row : row + 1])


@torch.no_grad()
def test_padding_a_source_changes_nothing(arch: str) -> None:
    model = build(arch)
    if "continue" not in model.objectives:
        return  # it has no encoder
    text, source = tokens(2, 8), tokens(2, 6, seed=5)
    source[1, 4:] = PAD
    alone = model(text[1:], source=source[1:, :4]).logits
    close(model(text, source=source).logits[1:], alone)


def test_every_parameter_learns(arch: str) -> None:
    fit = trainer(arch, steps=3, weight_decay=0.0)
    start = {name: p.detach().clone() for name, p in fit.model.named_parameters()}
    list(fit)
    still = [name for name, p in fit.model.named_parameters() if torch.equal(p, start[name])]
    assert still == []


def test_every_objective_overfits_a_tiny_text(arch: str) -> None:
    for objective in archs.load(arch).objectives:
        fit = trainer(arch, steps=150)
        fit.objective = OBJECTIVES[objective]
        if objective == "pairs":
            fit.batches = Buckets(*backwards(), batch_tokens=64, seed=0)
        losses = [float(step.nats) for step in fit]
        assert losses[0] > 1.5
        assert np.mean(losses[-10:]) < (0.7 if objective == "continue" else 0.5)  # 0.58: the last token alone


@pytest.mark.parametrize("prompt", [1, 4, 50])
def test_writing_goes_on_past_the_window(arch: str, prompt: int) -> None:
    """From a blank page, a short prompt and one of three windows; rows of a batch write what they write alone."""
    model = build(arch)
    greedy = lambda logits: logits.argmax(-1)  # noqa: E731
    written = torch.stack([ids for ids, _ in itertools.islice(generate(model, tokens(1, prompt), greedy), 40)], 1)
    assert written.shape == (1, 40)
    both = [ids for ids, _ in itertools.islice(generate(model, tokens(1, prompt), greedy, samples=2), 40)]
    assert torch.equal(torch.stack(both, 1), written.repeat(2, 1))


def test_the_same_seed_writes_the_same_text(arch: str) -> None:
    def write(seed: int) -> list[int]:
        pick = Picker(SampleSettings("1.0"), streams(seed, [0]))
        return [int(ids) for ids, _ in itertools.islice(generate(build(arch), tokens(1, 2), pick), 30)]

    assert write(1) == write(1)
    assert write(1) != write(2)


def test_evaluation_scores_each_token_once_and_as_streaming_does(arch: str) -> None:
    model, text = build(arch), tokens(1, 900)[0].numpy()
    nats = np.concatenate(list(token_nats(model, text[100:], text[:100])))
    assert nats.shape == (800,)
    with torch.no_grad():
        out = model(torch.from_numpy(text)[None, :-1])
        expected = torch.nn.functional.cross_entropy(out.logits[0], torch.from_numpy(text[1:]), reduction="none")[99:]
    assert nats.mean() == pytest.approx(float(expected.mean()), rel=0.02)  # rows differ in the context they have


def test_weights_survive_a_file(arch: str, tmp_path: Path) -> None:
    model, text = build(arch), tokens(2, 8)
    checkpoint.save_weights(tmp_path / "m.safetensors", model, {})
    other = build(arch)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    checkpoint.set_weights(other, checkpoint.read_weights(tmp_path / "m.safetensors", other)[0], tmp_path)
    assert torch.equal(model(text).logits, other(text).logits)


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "muon", "precision": "bf16"}, {"accumulate": 2, "ema": 0.9, "order": "random"}]
)
def test_stopping_and_resuming_changes_nothing(arch: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """N + N steps equal 2 N steps bit for bit, across an epoch (5 steps) and with dropout."""
    dropout = {"dropout": 0.2}
    straight = trainer(arch, steps=14, changes=dropout, **settings)
    list(straight)

    first = trainer(arch, steps=14, changes=dropout, **settings)
    list(itertools.islice(first, 7))
    checkpoint.save_training(tmp_path / "t.safetensors", first, {"note": 1})
    torch.manual_seed(12345)
    second = trainer(arch, steps=14, changes=dropout, **settings)
    assert checkpoint.load_training(tmp_path / "t.safetensors", second) == {"note": 1}
    list(second)

    assert second.position.step == 14
    for module in ("model", "average"):
        if getattr(straight, module) is not None:
            for a, b in zip(getattr(straight, module).parameters(), getattr(second, module).parameters(), strict=True):
                assert torch.equal(a, b)


def test_bf16_learns_too_or_is_refused(arch: str) -> None:
    if why := hindrance(build(arch), "bf16"):  # this processor has no such layers
        with pytest.raises(SettingsError, match=f"^--precision bf16 .*{why}.* use fp32 or auto$"):
            choose_precision("bf16", build(arch))
        return
    losses = [float(step.nats) for step in trainer(arch, steps=60, precision="bf16")]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_what_bf16_began_goes_on_in_fp32(arch: str, tmp_path: Path) -> None:
    first, second = (trainer(arch, steps=4, precision=precision) for precision in ("bf16", "fp32"))
    list(itertools.islice(first, 2))
    checkpoint.save_training(tmp_path / "t.safetensors", first, {})
    checkpoint.load_training(tmp_path / "t.safetensors", second)
    assert all(step.nats.isfinite() for step in second)


def test_hearing_itself_is_learning_too(arch: str) -> None:
    """Scheduled sampling: always told the truth, token by token equals all at once; told half of it, it learns."""
    told = trainer(arch, steps=1)
    text = tokens(2, 8)
    close(listen(told.model, text, None, None, truth=1.0).logits, told.model(text).logits)
    fit = trainer(arch, steps=40, teacher_forcing=0.5)
    losses = [float(step.nats) for step in fit]
    assert np.mean(losses[-5:]) < losses[0]


def test_the_file_names_its_paper_and_the_settings_their_bounds(arch: str) -> None:
    page = importlib.import_module(f"charlm.archs.{arch.replace('-', '_')}").__doc__ or ""
    assert re.search(r"[A-Z][a-z]+.*\b(19|20)\d\d, (arXiv:\d{4}\.\d{4,5}|doi:10\.\d+/\S+)", page)
    assert archs.summary(arch)
    for field in fields_of(archs.load(arch).Config):
        assert field.arg.help
        assert field.name == field.name.lower()
