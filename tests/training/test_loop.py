"""The training loop, with models small enough to know the answer."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from charlm.config import DataSpec, Settings, TrainSettings
from charlm.model import Features, LanguageModel, State
from charlm.objectives import summed_nats
from charlm.text.windows import Windows
from charlm.training.loop import Trainer

IDS = np.arange(400, dtype=np.uint8) % 7


class Bigram(LanguageModel):
    """Logits from the last token alone."""

    Config = Settings

    def __init__(self) -> None:
        super().__init__(Settings(), DataSpec(7, 8))
        self.table = nn.Embedding(7, 7)
        nn.init.zeros_(self.table.weight)
        self.head = nn.Identity()

    def features(self, tokens: Tensor, state: State = None) -> Features:
        return Features(self.table(tokens), state)


def trainer(model: LanguageModel, **settings: object) -> Trainer:
    values = {"batch_size": 4, "seq_len": 8, "lr": 1.0, "schedule": "constant", "warmup": 0.0, "clip": 0.0, "steps": 1}
    s = TrainSettings(**{**values, **settings})  # type: ignore[arg-type]
    windows = Windows(IDS, batch_size=s.batch_size, seq_len=s.seq_len, order=s.order, seed=s.seed)
    return Trainer(model, windows, [torch.optim.SGD(model.parameters(), lr=1.0)], s)


def expected_gradient(model: LanguageModel, fit: Trainer, batches: int) -> Tensor:
    """Of the mean loss over all tokens of so many batches, written out."""
    table = model.table.weight.detach().clone().requires_grad_()  # type: ignore[union-attr]
    nats, count = torch.zeros(()), 0
    for number in range(batches):
        windows = torch.from_numpy(fit.batches.batch(number)[0])  # of the middle of an epoch: without padding
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
