"""Several processes that train one model are one: they read their rows, and sum what they learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_archs import trainer
from torch import Tensor, distributed

from charlm import archs, objectives
from charlm.model import EncoderDecoder, leaves
from charlm.training import together
from charlm.training.loop import Trainer
from charlm.training.world import World

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")

SETTINGS: dict[str, dict[str, Any]] = {name: {} for name in archs.names()}
SETTINGS["gru"] = {"accumulate": 2, "ema": 0.9}
SETTINGS["transformer"] = {"optimizer": "muon", "order": "random"}
SETTINGS["reformer"] = {"changes": {"buckets": 1}}  # each process draws hashes of its own
CASES = [(name, objectives.load(archs.load(name).objective).name(), settings) for name, settings in SETTINGS.items()]
CASES += [(name, "pairs", {}) for name in archs.names() if issubclass(archs.load(name), EncoderDecoder)]


def fits(world: World) -> list[Trainer]:
    """A training of every architecture; of encoders and decoders on pairs too, whose batches may have fewer rows than
    there are processes. In float64: where a gradient is zero but for rounding, AdamW makes much of that."""
    return [
        trainer(arch, steps=8, goal=goal, world=world, clip=0.5, seed=3, **settings) for arch, goal, settings in CASES
    ]


def trained(fit: Trainer) -> tuple[list[Tensor], list[float], list[Tensor]]:
    """The weights, and their average, after five of the steps, the losses, and what is carried in all rows."""
    losses = [float(fit.step(0.0).nats) for _ in range(5)]
    average = [] if fit.average is None else list(fit.average.parameters())
    weights = [p.detach() for p in (*fit.model.parameters(), *average)]
    return weights, losses, leaves(together.all_carried(fit))


def one_of(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting-{size}", rank=rank, world_size=size)
    results = []
    for fit in fits(World(rank, size)):
        if rank:
            with torch.no_grad():
                for p in fit.model.parameters():
                    p.zero_()  # the first one gives all its own
            together.follow(fit)
            results.append(([p.detach() for p in fit.model.parameters()], [], []))
        else:
            together.share(fit)
            results.append(trained(fit))
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
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_learn_what_one_does(size: int, tmp_path: Path) -> None:
    """In every architecture, whatever is carried from batch to batch; and all have the same weights in the end."""
    torch.multiprocessing.spawn(one_of, (size, str(tmp_path)), nprocs=size)
    theirs = [torch.load(tmp_path / f"{size}-{rank}.pt") for rank in range(size)]
    for number, (case, fit) in enumerate(zip(CASES, fits(World()), strict=True)):
        weights, losses, carried = trained(fit)
        first, their_losses, their_carried = theirs[0][number]
        assert their_losses == pytest.approx(losses, rel=1e-6), case
        torch.testing.assert_close(first, weights, atol=1e-5, rtol=1e-4, msg=str(case))
        torch.testing.assert_close(their_carried, carried, atol=1e-5, rtol=1e-4, msg=str(case))
        for others in theirs[1:]:
            assert all(map(torch.equal, others[number][0], first)), case


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
