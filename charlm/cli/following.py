"""What `charlm train` is in all processes that torchrun starts but the first."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from charlm.cli.console import err
from charlm.errors import CharlmError


def follow(argv: Sequence[str]) -> int:
    """Take part in the training of the first process, and say nothing but what went wrong with this one.

    Returns the exit code. The options are read by the first process alone.
    """
    if argv[:1] != ["train"] or {"-h", "--help"} & {*argv}:
        return 0
    from charlm import processes
    from charlm.training.world import LostProcessError, joined

    try:
        with joined() as world:
            for number in (
                signal.SIGINT,
                signal.SIGTERM,
            ):  # the first one saves, and lets this one end
                signal.signal(number, signal.SIG_IGN)
            processes.follow(world)
    except LostProcessError:  # it has said why itself, or could not
        return 1
    except CharlmError as error:
        err.print(f"charlm: process {os.environ['RANK']}: {error}", markup=False, style="red", soft_wrap=True)
        return 2
    return 0
