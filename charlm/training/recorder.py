"""Training steps on a GPU are launched as one: an update is recorded as a CUDA graph, for each shape of what it reads.

Running text has one shape. Pairs have as many as there are lengths, so they are padded to few (`padded`), and those
that come first so often that they are known to be frequent are recorded. With `--accumulate` hardly two steps of pairs
are of one shape, so that most are not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.config import Lengths
from charlm.model import PAD, leaves, map_state
from charlm.objectives._base import Batch
from charlm.recording import Recorded

WARM_UP = 3  # updates of a shape before it is recorded: optimizers make their state, autograd and libraries settle
PLACES = 256  # shapes that are kept
GRAPHS = 64  # shapes that are recorded; a graph holds some memory, and pays only if it is replayed often


class Feed(NamedTuple):
    """What an update reads, on the device."""

    batches: tuple[tuple[Batch, Tensor], ...]  # each with the rows (B,) that go on from the batch before
    scored: Tensor  # () targets in all of them, and in those of other processes


class Recorder:
    """Calls `update`, as a CUDA graph where it can be one."""

    def __init__(self, model: nn.Module, update: Callable[[Feed], Tensor]) -> None:
        self.model, self.update = model, update
        self.device = next(model.parameters()).device
        self.on = self.few_shapes = self.device.type == "cuda"
        self.notes: list[str] = []  # for people
        self.feeds: dict[tuple[torch.Size, ...], Feed] = {}
        self.graphs: dict[tuple[torch.Size, ...], Recorded] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.on else None  # one, as only one graph runs at a time

    @property
    def recorded(self) -> int:
        """Shapes that are recorded."""
        return sum(work.graph is not None for work in self.graphs.values())

    def place(self, fed: Feed) -> Feed:
        """The same, on the device, where the last one of its shape was. What is not recorded has one place, and of very
        many shapes the last ones have none."""
        shape = tuple(t.shape for t in leaves(fed))
        if shape not in self.feeds:
            if not self.on:
                self.feeds.clear()
            feed = map_state(lambda t: torch.empty_like(t, device=self.device), fed)
            if len(self.feeds) == PLACES:
                return Feed(*map_state(self.fill, feed, fed))
            self.feeds[shape] = feed
        map_state(self.fill, self.feeds[shape], fed)
        return self.feeds[shape]

    def fill(self, to: Tensor, t: Tensor) -> Tensor:
        """Copy `t` to the device. From pinned memory CUDA fetches it while this thread goes on; MPS would read memory
        that was freed."""
        return to.copy_(t.pin_memory(), non_blocking=True) if self.device.type == "cuda" else to.copy_(t)

    def __call__(self, feed: Feed) -> Tensor:
        """The update of what was placed: its mean loss, ()."""
        shape = tuple(t.shape for t in leaves(feed))
        if not self.on or shape not in self.feeds:
            return self.update(feed)
        if shape not in self.graphs:
            work = partial(self.update, feed)
            self.graphs[shape] = Recorded(work, self.device, warm_up=WARM_UP, pool=self.pool, give_up=self.give_up)
        if self.graphs[shape].graph is None and self.recorded == GRAPHS:
            return self.update(feed)
        return self.graphs[shape]().clone()

    def give_up(self, cause: str) -> None:
        """Compute kernel by kernel from now on."""
        self.on = False
        self.graphs.clear()
        self.model.zero_grad()  # what was being recorded was never computed
        self.notes.append(f"steps cannot be recorded as a CUDA graph ({cause}); training goes on, more slowly")


def padded(batch: Batch, keep: Tensor, lengths: Lengths) -> tuple[Batch, Tensor]:
    """A batch of sources and targets, (B, S) and (B, T), and the rows that go on, in one of few shapes.

    What is added has no source and is not scored, so it changes neither loss nor gradient. No row becomes longer than a
    network reads and writes at once. A batch without a source stays: its rows go on in the next one.
    """
    if batch.source is None:
        return batch, keep
    more = rounded(len(keep)) - len(keep)

    def wider(rows: Tensor, value: int, room: int) -> Tensor:
        width = rows.size(1)
        return F.pad(rows, (0, max(0, min(rounded(width), room) - width), 0, more), value=value)

    tokens, targets = wider(batch.tokens, 0, lengths.target), wider(batch.targets, PAD, lengths.target)
    wide = batch._replace(tokens=tokens, targets=targets, source=wider(batch.source, PAD, lengths.source))
    return wide, F.pad(keep, (0, more))


def rounded(size: int) -> int:
    """The next size of which there are few: at most four between two powers of two."""
    step = max(4, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step
