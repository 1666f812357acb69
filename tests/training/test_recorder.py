"""A training step that is recorded for a GPU is the step that is computed kernel by kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from test_archs import trainer
from torch import Tensor

from charlm import archs
from charlm.config import PAD, Lengths
from charlm.model import EncoderDecoder, leaves
from charlm.objectives._base import Batch
from charlm.runs import checkpoint
from charlm.training.loop import Trainer
from charlm.training.optim import build_optimizers
from charlm.training.recorder import padded, rounded

PAIRED = [name for name in archs.names() if issubclass(archs.load(name), EncoderDecoder)]


def test_sizes_are_rounded_up_to_few() -> None:
    sizes = [rounded(size) for size in range(1, 1025)]
    assert all(size <= larger <= max(size + 3, 1.25 * size) for size, larger in enumerate(sizes, 1))
    assert len(set(sizes)) < 32


def test_what_goes_on_from_the_batch_before_is_not_padded() -> None:
    tokens = torch.zeros(3, 7, dtype=torch.long)
    keep = torch.tensor([True, False, True])
    batch, kept = padded(Batch(tokens, tokens), keep, Lengths.of_text(64))
    assert batch.tokens is tokens
    assert kept is keep


@pytest.mark.parametrize("length", [5, 12, 17, 33, 101])
def test_no_row_becomes_longer_than_a_network_reads_and_writes(length: int) -> None:
    """Or it would slide its window, and translators, which read another vocabulary than they write, cannot."""
    rows = torch.zeros(3, length, dtype=torch.long)
    wide, _ = padded(Batch(rows, rows, rows), torch.zeros(3, dtype=torch.bool), Lengths(0, 0, length, length))
    assert {tensor.shape for tensor in leaves(wide)} == {(4, length)}


def test_few_places_are_kept_however_many_shapes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlm.training.recorder.PLACES", 3)
    fit = trainer("encdec", steps=1, goal="pairs", accumulate=2)
    for recording, kept in ((False, 1), (True, 3)):
        fit.recorder.on = fit.recorder.few_shapes = recording
        for number in range(12):
            fit.position.step = number
            assert fit.step(0.0).nats.isfinite()
        assert len(fit.recorder.feeds) == kept


@pytest.mark.parametrize("arch", PAIRED)
def test_padding_to_a_rounder_shape_changes_neither_loss_nor_gradient(arch: str) -> None:
    fit = trainer(arch, steps=1, goal="pairs", seed=3)
    fit.model.eval()  # so that nothing is drawn
    feed, _ = fit.feed(0.0, torch.Generator())
    ((batch, keep),) = feed.batches
    wide, kept = padded(batch, keep, fit.model.spec.lengths)
    assert wide.tokens.shape != batch.tokens.shape
    assert wide.source is not None
    assert wide.source.size(1) % 4 == len(kept) % 4 == 0
    assert int((wide.targets != PAD).sum()) == int((batch.targets != PAD).sum())

    def learnt(batch: Batch, keep: Tensor) -> list[Tensor]:
        loss = fit.loss(batch, keep)
        fit.model.zero_grad()
        torch.autograd.backward(loss.minimised)
        return [loss.nats.detach(), *(p.grad for p in fit.model.parameters() if p.grad is not None)]

    for narrow, other in zip(learnt(batch, keep), learnt(wide, kept), strict=True):
        torch.testing.assert_close(narrow, other, atol=1e-5, rtol=1e-4)


def test_of_pairs_each_shape_has_its_place_and_few_are_fed() -> None:
    """What is done on a GPU, but that nothing is recorded on a CPU."""
    fit = trainer("encdec", steps=60, goal="pairs")
    fit.recorder.on = fit.recorder.few_shapes = True
    places: dict[Any, list[int]] = {}
    for number in range(60):
        feed, _ = fit.feed(0.0, torch.Generator().manual_seed(number))
        tensors = leaves(feed)
        shape, where = tuple(t.shape for t in tensors), [t.data_ptr() for t in tensors]
        assert places.setdefault(shape, where) == where
    assert len(places) < fit.batches.per_epoch  # type: ignore[attr-defined]
    assert fit.step(0.0).nats.isfinite()


# ---- on a GPU, in processes of their own: in this one torch says that there is none

CASES: dict[str, dict[str, Any]] = {name: {} for name in archs.names()}
CASES["lstm"] = {"accumulate": 2, "ema": 0.9, "changes": {"dropout": 0.3, "weight_drop": 0.2}}
CASES["gru"] = {"teacher_forcing": 0.5}
CASES["transformer"] = {"optimizer": "muon", "precision": "bf16", "changes": {"dropout": 0.2}}
CASES["reformer"] = {"changes": {"dropout": 0.2}}
GOALS: dict[str, dict[str, Any]] = {
    "lstm": {"goal": "classify", "layer_decay": 2.6, "unfreeze": "gradual"},
    "transformer": {"goal": "classify", "lm_share": 0.5},
    "bert": {"goal": "replaced", "changes": {"dropout": 0.2}},
}
PAIRS: dict[str, dict[str, Any]] = {name: {"goal": "pairs", "changes": {"dropout": 0.2}} for name in PAIRED}


def learn(settings: dict[str, Any], arch: str, *, recorded: bool) -> tuple[Trainer, list[float]]:
    """A training of 50 steps on a GPU, and its losses."""
    fit = moved(trainer(arch, steps=50, clip=1.0, seed=3, **settings))
    fit.recorder.on = recorded
    return fit, [float(step.nats) for step in fit]


def moved(fit: Trainer) -> Trainer:
    """The same training on a GPU."""
    model, average = fit.model.cuda(), fit.average.cuda() if fit.average else None
    optimizers = build_optimizers(model, fit.settings)
    return Trainer(model, fit.batches, optimizers, fit.settings, average=average, objective=fit.objective)


def recorded_is_eager() -> None:
    """Prints a line for each architecture: how many graphs there were, and how far the losses are apart."""
    worst = {}
    for arch, settings in [*CASES.items(), *PAIRS.items(), *GOALS.items()]:
        fit, losses = learn(settings, arch, recorded=True)
        _, eager = learn(settings, arch, recorded=False)
        apart = max(abs(a - b) for a, b in zip(losses, eager, strict=True))
        name = f"{arch} {settings.get('goal', '')}".strip()
        print(f"{name}: {fit.recorder.recorded} graphs, {apart:.6f} {fit.recorder.notes}", flush=True)
        worst[name] = apart if fit.recorder.recorded else 1.0
    bad = {name: apart for name, apart in worst.items() if not apart < 1e-4}
    assert not bad, bad


def a_resumed_training_is_the_training() -> None:
    """Whatever is drawn in a recorded step is a function of seed and number too."""
    for arch, settings in {"lstm": CASES["lstm"], "reformer": CASES["reformer"], "bert": GOALS["bert"]}.items():
        whole, _ = learn(settings, arch, recorded=True)
        first, last = (moved(trainer(arch, steps=50, clip=1.0, seed=3, **settings)) for _ in range(2))
        for _ in range(20):
            first.step(0.0)
        with TemporaryDirectory() as folder:
            checkpoint.save_training(Path(folder) / "t", first, {})
            checkpoint.load_training(Path(folder) / "t", last)
        for _ in range(30):
            last.step(0.0)
        for a, b in zip(whole.model.parameters(), last.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def a_step_that_cannot_be_recorded_is_computed_all_the_same() -> None:
    fit = moved(trainer("gru", steps=50, clip=1.0, seed=3))
    loss = fit.loss
    fit.loss = lambda *given: (float(given[1].sum()), loss(*given))[1]  # type: ignore[method-assign]  # waits
    losses = [float(step.nats) for step in fit]
    assert fit.recorder.notes
    assert not fit.recorder.on
    _, eager = learn({}, "gru", recorded=False)
    assert max(abs(a - b) for a, b in zip(losses, eager, strict=True)) < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize(
    "case",
    [recorded_is_eager, a_resumed_training_is_the_training, a_step_that_cannot_be_recorded_is_computed_all_the_same],
)
def test_on_a_gpu(case: Any) -> None:
    folders = [Path(__file__).parent, Path(__file__).parents[1]]
    code = f"import sys; sys.path[:0] = {[str(f) for f in folders]}; import test_recorder as t; t.{case.__name__}()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr[-2000:]
