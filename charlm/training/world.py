"""The processes that train one model together, each on its own device. Alone, a process decides and sums for itself.

The first process drives: it reads the settings, validates, saves and draws. Before it does what all must do, it
announces that; the others wait for such announcements (`together.follow`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from charlm.errors import CharlmError, RunError
from charlm.launch import launched

WAIT = timedelta(days=1)  # for the first process, which may be reading a large text or validating


class World(NamedTuple):
    """One process among `size`, which `torch.distributed` has joined where there are several."""

    rank: int = 0
    size: int = 1
    split: bool = True  # whether each has some rows of a batch; else all have all rows, and share the work of layers

    @property
    def share(self) -> int:
        """Which share of a batch is this process's, from 0. Those that have the same draw the same random numbers."""
        return self.rank if self.split else 0

    @property
    def rows(self) -> slice:
        """Which rows of a batch are this process's: every N-th, so that all have about equally long lines."""
        return slice(self.share, None, self.size if self.split else 1)

    def all_reduce(self, values: Iterable[Tensor]) -> None:
        """Replace all values, in place, by the sums of what the processes have: in one exchange."""
        if self.size == 1:
            return
        values = list(values)
        together = torch.cat([value.reshape(-1) for value in values])
        with reported():
            distributed.all_reduce(together)
        for value, part in zip(values, torch.split(together, [value.numel() for value in values]), strict=True):
            value.copy_(part.view_as(value))

    def broadcast(self, values: Iterable[Tensor]) -> None:
        """Replace all values, in place, by those of the first process."""
        if self.size > 1:
            with reported():
                for value in values:
                    distributed.broadcast(value, 0)

    def all_rows(self, mine: Tensor, count: int) -> Tensor:
        """(count, …) the rows of all processes, from those of this one."""
        if self.size == 1 or not self.split:
            return mine
        rows = mine.new_zeros(count, *mine.shape[1:])
        rows[self.rows] = mine
        self.all_reduce([rows])
        return rows

    def announce(self, what: float) -> None:
        """In the first process: let the others know what all are to do next. In those it does nothing."""
        if not self.rank:
            self.broadcast_number(what)

    def broadcast_number(self, number: float) -> float:
        """The number of the first process, in all of them."""
        if self.size == 1:
            return number
        sent = torch.tensor(number, dtype=torch.float64)  # on the host, so that no device is waited for
        with reported():
            distributed.broadcast(sent, 0)
        return float(sent)

    def broadcast_object(self, value: Any = None) -> Any:
        """The value of the first process, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        with reported():
            distributed.broadcast_object_list(box, 0)
        return box[0]


class LostProcessError(CharlmError):
    """Another process has ended, and with it the training."""


@contextmanager
def reported(*, computing: bool = False) -> Iterator[None]:
    """Turns PyTorch's error for a process that ended into one line; other errors, while it is `computing` too, stay."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, getattr(distributed, "DistError", ())) or "gloo" in str(error)
        if computing and not broken:
            raise
        cause = str(error).partition("\n")[0]
        raise LostProcessError(
            f"another process of this training has ended ({cause}); torchrun --max-restarts N starts all of them again "
            "from the last checkpoint, and charlm train --resume goes on from there too"
        ) from error


@contextmanager
def joined_world() -> Iterator[World]:
    """Join the other processes that torchrun has started, as it says in the environment, if there are any."""
    launch = launched()
    world = World(launch.rank, launch.size)
    if world.size == 1:
        yield World()
        return
    local = int(os.environ["LOCAL_RANK"])
    if local < torch.cuda.device_count():  # else on the CPU
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=WAIT))
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # where the addresses of processes that ended stay
            store = distributed.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    except RuntimeError as error:
        cause = str(error).partition("\n")[0]
        raise RunError(f"the processes of this training do not find each other: {cause}") from error
    try:
        yield world
    finally:
        distributed.destroy_process_group()
