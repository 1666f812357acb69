"""The training loop, with models small enough to know the answer."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from charlm.archs.gru import GRU
from charlm.config import DataSpec, Lengths, Settings, TrainSettings
from charlm.model import Features, LanguageModel, State, leaves
from charlm.objectives import load
from charlm.objectives._base import summed_nats
from charlm.runs import checkpoint
from charlm.text.windows import Windows
from charlm.training.loop import Trainer
from charlm.training.optim import build_optimizers

IDS = np.arange(400, dtype=np.uint8) % 7


class Bigram(LanguageModel):
    """Logits from the last token alone."""

    Config = Settings

    def __init__(self) -> None:
        super().__init__(Settings(), DataSpec(7, Lengths.of_text(8)))
        self.table = nn.Embedding(7, 7)
        nn.init.zeros_(self.table.weight)
        self.head = nn.Identity()

    def start(self, rows: int) -> State:
        return torch.zeros(rows, 0)

    def features(self, tokens: Tensor, state: State) -> Features:
        return Features(self.table(tokens), state)


def trainer(model: LanguageModel, *, teacher_forcing: float = 1.0, **settings: object) -> Trainer:
    values = {"batch_size": 4, "seq_len": 8, "lr": 1.0, "schedule": "constant", "warmup": 0.0, "clip": 0.0, "steps": 1}
    s = TrainSettings(**{**values, **settings})  # type: ignore[arg-type]
    windows = Windows(IDS, batch_size=s.batch_size, seq_len=s.seq_len, order=s.order, seed=s.seed)
    sgd = torch.optim.SGD(model.parameters(), lr=torch.tensor(1.0))
    return Trainer(model, windows, [sgd], s, objective=load("causal")(teacher_forcing=teacher_forcing))


def expected_gradient(model: LanguageModel, fit: Trainer, batches: int) -> Tensor:
    """Of the mean loss over all tokens of so many batches, written out."""
    table = model.table.weight.detach().clone().requires_grad_()  # type: ignore[union-attr]
    nats, count = torch.zeros(()), 0
    for number in range(batches):
        (array,), _ = fit.batches.batch(number)
        windows = torch.from_numpy(array)  # of the middle of an epoch: without padding
        nats = nats + summed_nats(table[windows[:, :-1]], windows[:, 1:])
        count += windows[:, 1:].numel()
    (gradient,) = torch.autograd.grad(nats / count, table)
    return gradient


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_follows_the_mean_over_all_its_tokens_however_they_are_batched(accumulate: int) -> None:
    model = Bigram()
    fit = trainer(model, accumulate=accumulate)
    gradient = expected_gradient(model, fit, accumulate)
    (step,) = list(fit)
    torch.testing.assert_close(model.table.weight.detach(), -gradient)
    assert step.tokens == accumulate * 4 * 8
    assert float(step.nats) == pytest.approx(np.log(7), rel=1e-5)


@pytest.mark.parametrize("seq_len", [8, 13, 99])
@pytest.mark.parametrize("order", ["stream", "random"])
def test_epochs_end_when_so_many_tokens_were_shown_as_the_text_has(seq_len: int, order: str) -> None:
    """Exactly in stream order, with the last batch in random order, whatever the length of a window."""
    fit = trainer(Bigram(), steps=None, epochs=3.0, seq_len=seq_len, order=order)
    steps = list(fit)
    assert fit.position.tokens == sum(step.tokens for step in steps)
    assert 0 <= fit.position.tokens - 3 * 400 < (fit.batches.tokens if order == "random" else 1)
    assert [step.progress for step in steps] == [min(1, n / 1200) for n in accumulate(step.tokens for step in steps)]


def test_the_gradient_is_clipped_to_its_norm() -> None:
    model = Bigram()
    list(trainer(model, clip=0.01))
    assert float(model.table.weight.detach().norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_rate_follows_the_schedule_through_the_budget() -> None:
    rates = [step.lr for step in trainer(Bigram(), steps=11, schedule="linear", lr=0.5)]
    np.testing.assert_allclose(rates, 0.5 * (1 - np.arange(11) / 11), rtol=1e-6)


def test_what_an_update_reads_stays_where_it_is_while_shapes_stay() -> None:
    """Batch, rows that begin anew, learning rate and carried state: so that an update can be recorded once."""
    model = GRU(GRU.Config(hidden_size=4), DataSpec(7, Lengths.of_text(8)))
    settings = TrainSettings(steps=30, batch_size=4, seq_len=8, accumulate=2)
    windows = Windows(IDS, batch_size=4, seq_len=8, order="stream", seed=0)  # an epoch has 13 batches
    fit, places = Trainer(model, windows, build_optimizers(model, settings), settings), []
    for _ in fit:
        tensors = [*leaves(tuple(fit.recorder.feeds.values())), *leaves(fit.position.carried), fit.skipped]
        tensors += [group["lr"] for optimizer in fit.optimizers for group in optimizer.param_groups]
        places.append([tensor.data_ptr() for tensor in tensors])
    assert places == [places[0]] * 30
    assert float(fit.position.carried.abs().sum()) > 0


def test_going_back_to_a_checkpoint_moves_no_tensor_and_is_the_same_training(tmp_path: Path) -> None:
    """To one with the optimizer's state in it, and to the one before the first step."""
    file, first = tmp_path / "t.safetensors", tmp_path / "first.safetensors"
    model = GRU(GRU.Config(hidden_size=4), DataSpec(7, Lengths.of_text(8)))
    settings = TrainSettings(steps=9, batch_size=4, seq_len=8, optimizer="muon")
    windows = Windows(IDS, batch_size=4, seq_len=8, order="stream", seed=0)
    fit = Trainer(model, windows, build_optimizers(model, settings), settings)

    def tensors() -> list[Tensor]:
        moments = [t for o in fit.optimizers for values in o.state.values() for t in values.values()]
        return [
            *model.parameters(),
            *moments,
            *leaves(fit.position.carried),
            *leaves(tuple(fit.recorder.feeds.values())),
        ]

    checkpoint.save_training(first, fit, {})
    for step in fit:
        if step.number == 5:
            checkpoint.save_training(file, fit, {})
    places, end = [t.data_ptr() for t in tensors()], [t.clone() for t in tensors()]
    for start in (file, first):
        checkpoint.load_training(start, fit)
        list(fit)
        assert [t.data_ptr() for t in tensors()] == places
        assert all(torch.equal(a, b) for a, b in zip(tensors(), end, strict=True))


def test_what_happens_between_two_steps_changes_nothing() -> None:
    """Every step seeds itself, so drawing random numbers in between, as sampling does, is harmless."""
    results = []
    for disturb in (False, True):
        model = Bigram()
        for _ in trainer(model, steps=10, teacher_forcing=0.5):
            if disturb:
                torch.manual_seed(123)
                torch.rand(7)
        results.append(model.table.weight.detach().clone())
    assert torch.equal(*results)
