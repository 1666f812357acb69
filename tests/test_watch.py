"""Looking on at a training."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm.runs import folder

Typed = Callable[..., tuple[int, str, str]]
TINY = ["--hidden-size", "16", "--seq-len", "16", "--batch-size", "4", "--eval-every", "10"]


def test_a_finished_run_is_shown_once(typed: Typed, verses: Path) -> None:
    assert typed("train", verses, "--arch", "rnn", "--steps", "40", *TINY, "--quiet")[0] == 0
    code, out, error = typed("watch")
    assert code == 0, error
    for said in ("verses-rnn: rnn", "finished", "100%", "bits/byte", "seconds of training", "latest sample"):
        assert said in out
    told = json.loads(typed("watch", "--json")[1])
    assert [point["step"] for point in told["curve"]] == [10, 20, 30, 40]
    assert (told["state"], told["progress"], told["seconds_left"]) == ("finished", 1.0, None)


def test_a_running_one_tells_its_speed_and_the_time_left(typed: Typed, verses: Path) -> None:
    assert typed("train", verses, "--arch", "rnn", "--steps", "40", "--stop-after", "20", *TINY, "--quiet")[0] == 0
    path = Path("runs/verses-rnn")
    stopped = json.loads(typed("watch", "--json")[1])
    assert (stopped["state"], stopped["progress"], stopped["seconds_left"]) == ("stopped", 0.5, None)
    with folder.locked(path):  # as a training does
        now = json.loads(typed("watch", "--json")[1])
        assert now["state"] == "training"
        assert now["tokens_per_second"] > 0
        assert now["seconds_left"] == pytest.approx(stopped["seconds"], rel=0.9)
        saved = path / "training.json"
        earlier = time.time() - stopped["seconds"] / 2  # half as long again as had been trained then
        os.utime(saved, (earlier, earlier))
        assert json.loads(typed("watch", "--json")[1])["progress"] == pytest.approx(0.75, abs=0.2)
    assert not folder.is_locked(path)
