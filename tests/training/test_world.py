"""Several processes that train one model are one: they read their rows, and sum what they learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed

from charlm.archs.gru import GRU
from charlm.config import DataSpec, Lengths, TrainSettings
from charlm.text.windows import Windows
from charlm.training.loop import Trainer
from charlm.training.optim import build_optimizers
from charlm.training.world import World

IDS = np.random.default_rng(0).integers(11, size=900, dtype=np.uint8)


def trained(world: World) -> tuple[list[Tensor], list[float]]:
    """The weights after a few steps, and the losses on the way."""
    torch.manual_seed(0)
    model = GRU(GRU.Config(hidden_size=8, dropout=0.0), DataSpec(11, Lengths.of_text(8)))
    settings = TrainSettings(steps=6, batch_size=6, seq_len=8, optimizer="muon", lr=1e-2)
    windows = Windows(IDS, batch_size=6, seq_len=8, order="random", seed=0)
    fit = Trainer(model, windows, build_optimizers(model, settings), settings, world=world)
    losses = [float(step.nats) for step in fit]
    return [p.detach() for p in model.parameters()], losses


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    world = World(rank, 2)
    assert world.agree(float(rank), torch.device("cpu")) == 0.0
    torch.save(trained(world), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    weights, losses = trained(World())
    for rank in (0, 1):
        theirs, their_losses = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(theirs, weights, atol=1e-4, rtol=1e-3)
        assert their_losses == pytest.approx(losses, rel=1e-5)


def test_alone_a_process_has_all_rows_and_decides_for_itself() -> None:
    world, some = World(), torch.ones(3)
    assert world.rows(7) == slice(0, 7)
    assert world.sum(some) is some
    assert world.agree(0.25, torch.device("cpu")) == 0.25
    shares = [World(rank, 3).rows(7) for rank in range(3)]
    assert [row for share in shares for row in range(7)[share]] == list(range(7))
