"""Optimizers, schedules, averages."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from charlm.config import DataSpec, Lengths, TrainSettings
from charlm.plan import Plan
from charlm.training.optim import Muon, average_weight, build_optimizers, rate, step_if_finite, update_average

MODEL = Plan.of({"arch": "transformer", "hidden_size": 16, "heads": 2, "layers": 2, "bias": True}).build(
    DataSpec(9, Lengths.of_text(8))
)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_has_one_optimizer_and_only_matrices_decay(name: str) -> None:
    optimizers = build_optimizers(MODEL, TrainSettings(optimizer=name, weight_decay=0.5))  # type: ignore[arg-type]
    decay = {id(p): g["weight_decay"] for o in optimizers for g in o.param_groups for p in g["params"]}
    assert len(decay) == sum(len(g["params"]) for o in optimizers for g in o.param_groups)
    for key, p in MODEL.named_parameters():
        matrix = p.dim() == 2 and not key.startswith(("embed", "earlier"))
        assert decay[id(p)] == (0.5 if matrix and not (name == "muon" and "head" in key) else 0.0), key


def test_muon_takes_the_hidden_matrices_and_leaves_embedding_and_head_to_adamw() -> None:
    adamw, muon = build_optimizers(MODEL, TrainSettings(optimizer="muon"))
    names = {id(p): key for key, p in MODEL.named_parameters()}
    hidden = {names[id(p)] for g in muon.param_groups for p in g["params"]}
    assert hidden == {
        key for key in names.values() if key.startswith("blocks") and key.endswith("weight") and "norm" not in key
    }
    assert type(adamw).__name__ == "AdamW"


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "linear", "constant"])
def test_a_schedule_rises_in_the_warm_up_and_never_after(schedule: str) -> None:
    values = [rate(schedule, 0.1, i / 1000) for i in range(1001)]
    assert values[:100] == sorted(values[:100])
    assert values[100:] == sorted(values[100:], reverse=True)
    assert max(values) == pytest.approx(1.0, abs=0.01)
    assert all(0 <= value <= 1 for value in values)
    assert values[-1] == (1.0 if schedule == "constant" else pytest.approx(0.0, abs=1e-9))


def test_wsd_is_stable_before_it_decays() -> None:
    assert [rate("wsd", 0.0, p) for p in (0.0, 0.3, 0.6, 0.8, 1.0)] == pytest.approx([1, 1, 1, 0.5, 0])


def test_the_schedule_of_vaswani_is_the_papers() -> None:
    """Equation 3: min(step^-0.5, step * warmup^-1.5), here as a share of its peak; 100 of 1,000 steps warm up."""
    for step in range(1, 1001):
        expected = min(step**-0.5, step * 100**-1.5) / 100**-0.5
        assert rate("inverse-sqrt", 0.1, step / 1000) == pytest.approx(max(expected, 0.01))


def test_without_a_warm_up_the_first_step_has_the_whole_rate() -> None:
    assert rate("linear", 0.0, 0.0) == 1.0


def test_the_average_of_constant_weights_is_those_weights_and_the_start_is_forgotten() -> None:
    model = nn.Linear(3, 2)
    average = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    for step in range(1, 400):
        update_average(average, model, torch.tensor(average_weight(0.95, step)))
    for p in average.parameters():
        torch.testing.assert_close(p, torch.ones_like(p))


def test_muon_follows_the_published_one() -> None:
    """Against PyTorch's, which orthogonalises in bf16: the paths stay together though each rounds in its own way."""
    torch.manual_seed(0)
    shapes = [(24, 16), (24, 16), (16, 24), (8, 8)]
    ours = [torch.nn.Parameter(torch.randn(*shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    one = Muon([{"params": ours, "lr": torch.tensor(0.02), "weight_decay": 0.1}])
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(10):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        step_if_finite(one, torch.tensor(True))
        other.step()
    for p, q, before in zip(ours, theirs, start, strict=True):
        assert (p - q).norm() < 0.02 * (p - before).norm()


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    for optimizer in build_optimizers(model, TrainSettings(steps=1, optimizer="muon")):
        for grad, finite in ((1.0, True), (float("nan"), False), (float("inf"), False)):
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            state = copy.deepcopy(optimizer.state_dict()["state"])
            for p in model.parameters():
                p.grad = torch.full_like(p, grad)
            step_if_finite(optimizer, torch.tensor(finite))
            same = [torch.equal(p, before[name]) for name, p in model.named_parameters()]
            assert all(same) is not finite
            if not finite:
                for p, values in optimizer.state_dict()["state"].items():
                    assert all(torch.equal(values[key], state[p][key]) for key in values)
