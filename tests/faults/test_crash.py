"""Kill -9, for real. `crash.py` beside this file has the long form."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import crash
import pytest

from charlm.runs import folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")


def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened() -> None:
    Path("text.txt").write_text(crash.TEXT)
    assert len(list(crash.torture(crash.PLANS[1], 2, random.Random(1)))) == 2


def test_killing_the_demo_in_a_loop_loses_nothing() -> None:
    """The same command, typed again, goes on where the last checkpoint stands."""
    words, steps = ("demo", "--minutes", "0.12"), [0]
    for after in (5.0, 6.0):
        crash.kill(crash.start(*words), Path("runs/saltmere-lstm"), after, in_a_save=after == 6.0)
        steps += [info.training["step"] for info in folder.list_runs() if crash.opens(info.path)]
    assert crash.start(*words).wait() == 0
    (run,) = folder.list_runs()
    assert run.training["finished"]
    assert steps == sorted(steps)
