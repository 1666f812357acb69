"""Several processes that train one model are one: they share rows, weights or the work of layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from test_archs import build, trainer
from torch import Tensor, distributed

from charlm import archs, objectives
from charlm.errors import SettingsError
from charlm.model import EncoderDecoder, leaves
from charlm.training import sharding, together
from charlm.training.loop import Trainer
from charlm.training.world import World

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")

SETTINGS: dict[str, dict[str, Any]] = {name: {} for name in archs.names()}
SETTINGS["gru"] = {"accumulate": 2, "ema": 0.9}
SETTINGS["transformer"] = {"optimizer": "muon", "order": "random"}
SETTINGS["reformer"] = {"changes": {"buckets": 1}}  # each process draws hashes of its own
Case = tuple[str, str, dict[str, Any]]
CASES: list[Case] = [
    (name, objectives.load(archs.load(name).objective).name(), settings) for name, settings in SETTINGS.items()
]
CASES += [(name, "pairs", {}) for name in archs.names() if issubclass(archs.load(name), EncoderDecoder)]
FORMS: list[dict[str, Any]] = [  # of the transformer, whose layers can be split
    {"changes": {"bias": True, "norm": "layer", "activation": "gelu", "positions": "learned"}, "order": "random"},
    {"changes": {"tied": True, "share_layers": True, "embedding_size": 8}, "optimizer": "muon"},
    {"changes": {"qk_norm": False, "activation": "swiglu", "hidden_size": 24}, "ema": 0.9},
    {"changes": {"experts": 3, "ngram": 2}, "accumulate": 2},
    {"changes": {"pattern": "bigbird,window,strided,longformer", "layers": 4}},
    {"changes": {"norm_place": "post"}, "teacher_forcing": 0.5},
]
SPLIT: list[Case] = [
    ("transformer", "causal", form | {"changes": {"heads": 4, **form["changes"]}, "batch_size": 3}) for form in FORMS
]
UNLIKE = ("gru", "lstmcell", "transformer", "transformer-xl")  # FSDP meets another form of network in each


def ways(size: int) -> dict[str, list[Case]]:
    """Two processes do less: all of it takes a while."""
    if size > 2:
        return {"ddp": CASES, "fsdp": CASES, "tensor": SPLIT}
    return {
        "ddp": CASES,
        "fsdp": [case for case in CASES if case[0] in UNLIKE or case[1] == "pairs"],
        "tensor": SPLIT[1:4],
    }


def fit_of(case: Case, parallel: str, world: World) -> Trainer:
    """In float64: where a gradient is zero but for rounding, AdamW makes much of that. Of pairs, batches may have fewer
    rows than there are processes."""
    arch, goal, settings = case
    return trainer(arch, steps=8, goal=goal, world=world, clip=0.5, seed=3, parallel=parallel, **settings)


class Trained(NamedTuple):
    losses: list[float]
    values: dict[str, Tensor]  # weights, their average, optimizer states
    carried: list[Tensor]  # in all rows
    whole: list[Tensor]  # the weights that would be scored


def trained(fit: Trainer) -> Trained:
    """After five of the steps; after three of them all is taken out, and put in again."""
    losses = [float(fit.step(0.0).nats) for _ in range(3)]
    saved = {name: t.clone() for name, t in together.all_values(fit).items()}
    together.share(fit, saved, together.all_carried(fit))
    losses += [float(fit.step(0.0).nats) for _ in range(2)]
    together.gather(fit)
    values = {name: t.detach() for name, t in together.all_values(fit).items()}
    return Trained(losses, values, leaves(together.all_carried(fit)), [p.detach() for p in fit.whole.parameters()])


def spoil(fit: Trainer, step: int) -> None:
    """Let this process's loss of a step be no number."""
    learn = fit.learner.forward

    def forward(*given: Any) -> Any:
        loss = learn(*given)
        return loss._replace(nats=loss.nats * (torch.nan if fit.position.step + 1 == step else 1))

    fit.learner.forward = forward  # type: ignore[method-assign]


def changes_nothing(fit: Trainer) -> bool:
    """Whether the next step is skipped."""
    before = {name: t.clone() for name, t in together.all_values(fit).items()}
    fit.step(0.0)
    after = together.all_values(fit)
    return int(fit.skipped) == 1 and all(torch.equal(t, after[name]) for name, t in before.items())


def one_of(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting-{size}", rank=rank, world_size=size)
    results = []
    for parallel, cases in ways(size).items():
        for case in cases:
            fit = fit_of(case, parallel, World(rank, size))
            if rank:
                spoil(fit, 6)
                with torch.no_grad():
                    for p in fit.model.parameters():
                        p.zero_()  # the first one gives all its own
                together.follow(fit)
                results.append([p.detach() for p in fit.model.parameters() if parallel == "ddp"])
            else:
                together.begin(fit)
                results.append(tuple(trained(fit)))
                assert changes_nothing(fit), (parallel, case)
                together.end(fit)
    torch.save(results, f"{folder}/{size}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("float64")
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_learn_what_one_does(size: int, tmp_path: Path) -> None:
    """In every architecture, whatever is carried from batch to batch, and however rows and weights are shared; with
    weights of their own all have the same in the end. If a loss is no number in one of them, all skip that step."""
    torch.multiprocessing.spawn(one_of, (size, str(tmp_path)), nprocs=size)
    first, *others = (torch.load(tmp_path / f"{size}-{rank}.pt") for rank in range(size))
    number, alone = 0, dict[str, Trained]()
    for parallel, cases in ways(size).items():
        for case in cases:
            if str(case) not in alone:
                alone[str(case)] = trained(fit_of(case, "ddp", World()))
            expected = alone[str(case)]
            theirs = Trained(*first[number])
            assert theirs.losses == pytest.approx(expected.losses, rel=1e-6), (parallel, case)
            for name in ("values", "carried", "whole"):
                one, many = getattr(expected, name), getattr(theirs, name)
                torch.testing.assert_close(many, one, atol=1e-5, rtol=1e-4, msg=f"{parallel} {case} {name}")
            for other in others:
                mine = [t for name, t in theirs.values.items() if name.startswith("model/")]
                assert all(map(torch.equal, other[number], mine)), (parallel, case)
            number += 1


@pytest.mark.parametrize(
    ("arch", "changes", "message"),
    [
        ("lstm", {}, "--parallel tensor splits the layers of transformer, and not those of LSTM; --parallel fsdp"),
        ("transformer", {}, "with 4 processes needs --heads a multiple of 4, got 2; --parallel fsdp spreads"),
        (
            "transformer",
            {"heads": 4, "activation": "swiglu"},
            "the inner units of a layer must be a multiple of 4, got 42",
        ),
        ("transformer", {"heads": 4, "pattern": "fixed"}, "one pattern, and --pattern fixed has several"),
    ],
)
def test_what_cannot_be_split_is_refused(arch: str, changes: dict[str, Any], message: str) -> None:
    network = build(arch, **changes)
    with pytest.raises(SettingsError, match=message):
        sharding.refuse("tensor", network, World(0, 4))
    sharding.refuse("tensor", network, World())
    sharding.refuse("fsdp", network, World(0, 4))


def test_rows_are_dealt_out_one_by_one() -> None:
    shares = [list(range(7)[World(rank, 3).rows]) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]


def test_alone_a_process_has_all_rows_and_decides_for_itself() -> None:
    world, some = World(), torch.ones(3)
    world.all_reduce([some])
    assert torch.equal(some, torch.ones(3))
    assert world.rows == slice(0, None, 1)
    assert world.broadcast_number(0.25) == 0.25
    assert world.broadcast_object("word") == "word"
