"""What `charlm train` is in all processes that torchrun starts but the first."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def follow(argv: Sequence[str]) -> int:
    """Take part in the training of the first process, which alone reads the options; the exit code."""
    if argv[:1] != ["train"] or {"-h", "--help"} & {*argv}:
        return 0
    from charlm import processes
    from charlm.training.world import LostProcessError, joined_world

    try:
        with joined_world() as world:
            for number in (signal.SIGINT, signal.SIGTERM):  # the first one saves, and lets this one end
                signal.signal(number, signal.SIG_IGN)
            processes.follow(world)
    except LostProcessError:  # it has said why itself, or could not
        return 2
    return 0
