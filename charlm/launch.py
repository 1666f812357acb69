"""What torchrun tells each process that it starts, by its environment. Imports no torch."""

from __future__ import annotations

import os
from typing import NamedTuple


class Launch(NamedTuple):
    """One process among `size`."""

    rank: int = 0
    size: int = 1
    id: str | None = None  # of the launch, `--rdzv-id`: "none" for many a launch of one machine
    again: bool = False  # whether all were started anew, as one of them had ended


def launched() -> Launch:
    """How this process was started; alone where it was not torchrun."""
    e = os.environ
    if "TORCHELASTIC_RUN_ID" not in e:
        return Launch()
    again = e.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    return Launch(int(e["RANK"]), int(e["WORLD_SIZE"]), e["TORCHELASTIC_RUN_ID"], again)
