"""The processes that train one model together, each on its own device. Alone, a process decides and sums for itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed


class World(NamedTuple):
    """One process among `size`, which `torch.distributed` has joined where there are several."""

    rank: int = 0
    size: int = 1

    def rows(self, count: int) -> slice:
        """Which rows of a batch of so many are this process's."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of what all processes have, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def agree(self, value: float, device: torch.device) -> float:
        """What the first process says: a clock tells each of them another time. It is sent from device to device."""
        if self.size == 1:
            return value
        sent = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.broadcast(sent, 0)
        return float(sent)
