"""What the measurements count, and how long they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clock import Time

from charlm.model import Output

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def beside_charlm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurements are no part of the package."""
    monkeypatch.syspath_prepend(ROOT)


def test_of_the_copy_task_second_halves_are_scored_whole_and_letter_by_letter() -> None:
    from bench.repeat import ZERO, lines, score

    words = lines(5, 7, torch.Generator().manual_seed(0))
    assert (words[:, 0] == ZERO).all()
    assert torch.equal(words[:, :8], words[:, 8:])

    def copier(text: torch.Tensor, forgets: bool = False) -> Output:
        """Guesses what stood 8 places before the next token, and z for a first letter m."""
        guesses = torch.cat([text[:, :7], text[:, : text.size(1) - 7]], 1)
        guesses[:, 8][(guesses[:, 8] == 12) & forgets] = 25
        return Output(torch.nn.functional.one_hot(guesses, ZERO + 1).float(), ())

    assert score(copier, 7) == (1, 1)
    exact, right = score(lambda text: copier(text, forgets=True), 7)
    assert 1 - exact == pytest.approx(1 / 26, abs=0.02)
    assert 1 - right == pytest.approx((1 - exact) / 7, rel=1e-4)


def test_every_stage_has_its_share_of_the_minutes_and_what_was_left_over() -> None:
    from bench.gpu import Case, Stage, rows

    time, given = Time(), list[float]()

    def takes(seconds: float) -> Callable[[float], dict[str, object]]:
        def work(left: float) -> dict[str, object]:
            given.append(left)
            time.seconds += seconds
            return {"MB": 1.0}

        return work

    def case(what: str, expected: float, seconds: float) -> Case:
        return Case(what, "", expected, takes(seconds))

    stages = {
        "first": Stage(1, [case("quick", 4, 4), case("slow", 7, 1)]),
        "second": Stage(3, [case("long", 35, 34), case("longer", 3, 3), case("late", 0.1, 1)]),
    }
    measured = list(rows(stages, 40, time))
    assert [(row["what"], row.get("MB")) for row in measured] == [
        ("quick", 1.0),
        ("slow", None),
        ("long", 1.0),
        ("longer", None),
        ("late", 1.0),
    ]
    assert measured[1]["note"] == "skipped: it takes some 7 s, and 6 are left"
    assert given == [10, 36, 2]


def test_what_fails_says_why_and_the_next_is_measured() -> None:
    from bench.gpu import Case, Stage, rows

    def fail(_: float) -> dict[str, object]:
        raise RuntimeError("first line\nno such kernel")

    def die(_: float) -> dict[str, object]:
        subprocess.run([sys.executable, "-c", "raise SystemExit('gone')"], capture_output=True, check=True)
        return {}

    def hang(_: float) -> dict[str, object]:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], capture_output=True, timeout=0.01)
        return {}

    stages = {"one": Stage(1, [Case(work.__name__, "", 0, work) for work in (fail, die, hang)])}
    notes = [row["note"] for row in rows(stages, 60)]
    assert notes == ["RuntimeError: no such kernel", "gone", "stopped, as it took too long"]


def test_each_test_that_wants_a_gpu_is_marked_so() -> None:
    """So that `pytest -m gpu` runs them all."""
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert not [path.name for path in tests if "cuda.device_count" in path.read_text(encoding="utf-8")]


@pytest.mark.slow
def test_all_that_is_measured_on_a_gpu_runs_in_tiny_form_on_a_cpu(verses: Path) -> None:
    options = ["--device", "cpu", "--minutes", "3", "--json", "table.json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", "gpu", verses, *options]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    rows = json.loads(Path("table.json").read_text())["rows"]
    assert len(done.stdout.splitlines()) == 4 + len(rows)
    by_stage: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_stage.setdefault(str(row["stage"]), []).append(row)
    assert list(by_stage) == ["tests", "training", "writing", "quality"]
    assert "passed" in by_stage["tests"][0]["note"] or "skipped" in by_stage["tests"][0]["note"]
    assert [row for row in rows if "tokens/s" in row] == rows[1:]
    assert [row for row in rows if "nats/char" in row] == by_stage["quality"]
