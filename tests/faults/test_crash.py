"""Kill -9, for real. `crash.py` beside this file has the long form."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import crash
import pytest

from charlm.runs import folder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")]


def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened() -> None:
    Path("text.txt").write_text(crash.TEXT)
    assert len(list(crash.torture(crash.PLANS[1], 2, random.Random(1)))) == 2


def test_killing_the_demo_in_a_loop_loses_nothing() -> None:
    """The same command, typed again, goes on where the last checkpoint stands."""
    words, run, saved = ("demo", "--minutes", "0.6"), Path("runs/saltmere-lstm"), -1

    def step() -> int:
        return int(folder.info(run).training["step"]) if crash.opens(run) else -1

    for _ in range(2):
        demo = crash.start(*words)
        while step() <= saved:
            assert demo.poll() is None, "it ended before it had saved anything more"
            time.sleep(0.1)
        demo.kill()
        demo.wait()
        saved = step()
        assert not folder.info(run).training["finished"]
    assert crash.start(*words).wait() == 0
    assert [info.path for info in folder.list_runs()] == [run]
    assert folder.info(run).training["finished"]
    assert step() > saved
