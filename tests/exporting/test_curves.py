"""The course of a training in other programs: every figure at its step."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import train_on_verses
from tensorboardX.proto.event_pb2 import Event

from charlm.runs import folder

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def noted(tmp_path: Path) -> list[dict[str, float]]:
    """What a small run noted of itself."""
    train_on_verses(tmp_path, steps=30, eval_every="10")
    entries = [entry for entry, _ in folder.metrics(tmp_path / "run")]
    assert len(entries) >= 3
    return entries


def events(path: Path) -> list[Event]:
    """Those of a file: each has its length before it (8 bytes), a checksum of that (4), and one behind it (4)."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_tensorboard_gets_every_number_at_its_step(noted: list[dict[str, float]], typed: Typed) -> None:
    assert typed("export", "run", "board/one", "--format", "tensorboard")[0] == 0
    (file,) = Path("board/one").iterdir()
    read = {(v.tag, e.step): v.simple_value for e in events(file) for v in e.summary.value}
    numbers = {
        (name, e["step"]): v for e in noted for name, v in e.items() if isinstance(v, float | int) and name != "step"
    }
    assert read.keys() == numbers.keys()
    assert all(read[place] == pytest.approx(value, rel=1e-6) for place, value in numbers.items())
    assert {(e.step, e.wall_time) for e in events(file) if e.summary.value} == {
        (e["step"], e["seconds"]) for e in noted
    }


def test_csv_has_a_line_for_each_validation_in_a_file_or_a_pipe(noted: list[dict[str, float]], typed: Typed) -> None:
    code, out, _ = typed("export", "run", "-", "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(row["train_nats"]) for row in rows] == [entry["train_nats"] for entry in noted]
    assert [*rows[0]][:3] == ["step", "tokens", "seconds"]
    assert {*rows[0]} == {
        name for entry in noted for name, value in entry.items() if not isinstance(value, dict | list)
    }
    assert typed("export", "run", "curve.csv", "--format", "csv")[:2] == (0, "curve.csv\n")
    assert Path("curve.csv").read_bytes().decode() == out


def test_what_cannot_be_is_refused_and_leaves_nothing(noted: list[dict[str, float]], typed: Typed) -> None:
    before = sorted(os.listdir())
    assert "leave --weights out" in typed("export", "run", "-", "--format", "csv", "--weights", "last")[2]
    assert typed("export", "run", "verses.txt", "--format", "tensorboard")[2].startswith("charlm: verses.txt exists")
    Path("run/metrics.jsonl").write_text(json.dumps({"no": "step"}) + "\n")
    for form in ("csv", "tensorboard"):
        code, out, error = typed("export", "run", "new", "--format", form)
        assert (code, out, "nothing was validated or noted yet" in error) == (2, "", True)
    assert sorted(os.listdir()) == before
    assert noted
