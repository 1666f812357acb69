"""Run folders that were damaged, or made to do harm: refused with the reason, soon, and in little memory."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import charlm
from charlm import job
from charlm.errors import CharlmError, RunError
from charlm.events import Note
from charlm.plan import Plan
from charlm.runs import checkpoint, folder
from charlm.text.corpus import Corpus

resource = pytest.importorskip("resource", reason="this system does not tell the memory of a process")

TIMES = 6  # that each file is damaged in each way
FILES = ("config.json", "tokenizer.json", "training.json", "model.safetensors", "training.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped on its way, with a checkpoint that carries a state and an optimizer's."""
    place = tmp_path_factory.mktemp("whole")
    (place / "text.txt").write_text("to be or not to be, that is the question\n" * 40)
    plan = Plan.of({"hidden_size": 8, "embedding_size": 8, "seq_len": 8, "steps": 9, "eval_every": "3"})
    for _ in job.train(plan, Corpus.open([place / "text.txt"]), out=place / "run", cache_dir=place / "c", stop_after=6):
        pass
    return place / "run"


@pytest.fixture
def run(whole: Path) -> Path:
    shutil.copytree(whole, "run")
    return Path("run")


def contents(run: Path) -> Any:
    """All that a run says, read as sampling and resuming read it."""
    found = folder.info(run)
    weights = {name: charlm.load(run, weights=name, device="cpu").model.state_dict() for name in ("best", "last")}
    state, notes = checkpoint.load_tensors(run / "training.safetensors", lambda *_: True)
    for _ in job.resume(run, changes={}, stop_after=1):
        pass
    return found, weights, state, notes


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def shuffled(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:a] + bytes(reversed(data[a:b])) + data[b:]


def overwritten(data: bytes, rng: random.Random) -> bytes:
    place, size = rng.randrange(len(data)), rng.choice([1, 8, 100])
    return data[:place] + rng.randbytes(size) + data[place + size :]


def with_an_oversized_header(data: bytes, rng: random.Random) -> bytes:
    return struct.pack("<Q", rng.choice([2**63, 2**40, 2**31, len(data), 99_999_999])) + data[8:]


def doubled(data: bytes, _rng: random.Random) -> bytes:
    return data + data


MUTATIONS = (truncated, flipped, shuffled, overwritten, with_an_oversized_header, doubled)


def mutants(whole: Path) -> Iterator[tuple[str, str, bytes]]:
    """A file of the run, what was done to it, and what it holds since."""
    rng = random.Random(0)
    for _, name, mutate in product(range(TIMES), FILES, MUTATIONS):
        yield name, mutate.__name__, mutate((whole / name).read_bytes(), rng)
    for name, other in permutations(FILES, 2):
        yield name, f"exchanged for {other}", (whole / other).read_bytes()


def test_every_damaged_run_is_refused_or_says_what_it_said(whole: Path) -> None:
    """A flipped bit may hit a blank between two words of JSON, and then nothing has been changed."""
    shutil.copytree(whole, "run")
    true, refused, slowest, memory = contents(Path("run")), 0, 0.0, peak()
    damaged = list(mutants(whole))
    for name, mutation, content in damaged:
        shutil.rmtree("run")
        shutil.copytree(whole, "run")
        Path("run", name).write_bytes(content)
        began = time.monotonic()
        try:
            found = contents(Path("run"))
        except CharlmError as error:
            refused += str(error).startswith("run/")  # it names the file
        else:
            assert all(same(a, b) for a, b in zip(found, true, strict=True)), f"{name} {mutation}: fooled"
        slowest = max(slowest, time.monotonic() - began)
    assert len(damaged) == 200
    assert refused > 0.95 * len(damaged)
    assert slowest < 5
    assert peak() - memory < 500_000  # kB; a process of its own has 300,000 before it begins


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resealed(run: Path, **changes: Any) -> None:
    """config.json as someone would forge it: with the right checksum."""
    config = folder.read_json(run / "config.json")
    folder.write_json(run / "config.json", config | changes)


FORGERIES: dict[str, Callable[[Path], object]] = {
    "is a link to /etc/passwd, out of its run": lambda run: link(run / "tokenizer.json", "/etc/passwd"),
    "is a link to .*, out of its run": lambda run: link(
        run / "model.safetensors", shutil.move(run / "last.safetensors", ".")
    ),
    "cannot be read: .*": lambda run: link(run / "config.json", "config.json"),
    "tokenizer.json is no file": lambda run: (os.unlink(run / "tokenizer.json"), os.mkfifo(run / "tokenizer.json")),
    "config.json is damaged: no such file has": lambda run: os.truncate(run / "config.json", 1 << 40),
    "model.safetensors is damaged": lambda run: os.truncate(run / "model.safetensors", 1 << 40),
    "it has no .* of shape": lambda run: resealed(run, model=folder.info(run).config["model"] | {"hidden_size": 65536}),
    "does not describe a run of this charlm: layers must be at most 64": lambda run: resealed(
        run, model=folder.info(run).config["model"] | {"layers": 10**9}
    ),
    "unknown architecture 'os.system'": lambda run: resealed(run, arch="os.system"),
    "does not describe a run": lambda run: resealed(run, corpus=[]),
    r"made by another charlm \(0\.0\)": lambda run: resealed(run, format=0, charlm="0.0"),
    "recursion|cannot be read": lambda run: (run / "config.json").write_text("[" * 100_000),
    "Exceeds the limit|cannot be read": lambda run: (run / "config.json").write_text("9" * 100_000),
    "damaged or was edited": lambda run: (run / "config.json").write_text("[1, 2]"),
    "is not the vocabulary": lambda run: folder.write_json(run / "tokenizer.json", {"kind": "byte"}),
    "vocabulary|tokenizer": lambda run: folder.write_json(run / "tokenizer.json", {"kind": "char", "characters": [-5]}),
}


def link(path: Path, to: object) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.abspath(str(to)) if str(to) != path.name else path.name)


@pytest.mark.parametrize("message", FORGERIES)
def test_a_forged_run_is_refused_with_the_reason(run: Path, message: str) -> None:
    FORGERIES[message](run)
    memory = peak()
    with pytest.raises(CharlmError, match=message):
        charlm.load(run, device="cpu")
    assert peak() - memory < 500_000


def test_logs_that_lead_out_of_the_run_are_not_followed(run: Path) -> None:
    Path("diary.txt").write_text("dear diary\n")
    link(run / "samples.txt", "diary.txt")
    for event in job.resume(run, changes={}):
        if isinstance(event, Note) and "is a link to" in event.text:
            break
    else:
        raise AssertionError("it said nothing")
    assert Path("diary.txt").read_text() == "dear diary\n"
    link(run / "metrics.jsonl", "diary.txt")
    with pytest.raises(RunError, match=r"metrics\.jsonl is a link to"):
        list(job.resume(run, changes={"steps": 20}))


def test_a_forged_checkpoint_is_refused_before_anything_is_made_of_it(run: Path) -> None:
    path = run / "training.safetensors"
    tensors, said = checkpoint.load_tensors(path, lambda *_: True)
    (moment,) = [name for name in tensors if name.endswith("exp_avg")][:1]
    forgeries: list[tuple[dict[str, torch.Tensor], dict[str, Any]]] = [
        (tensors | {moment: torch.zeros(3, 3)}, said),
        (tensors | {"optimizer/7/0/step": torch.zeros(())}, said),
        (tensors | {"optimizer/x": torch.zeros(())}, said),
        (tensors | {"carried/0": torch.zeros(3, 3)}, said),
        (tensors | {"code": torch.zeros(1)}, said),
        (tensors | {"carried/0": torch.zeros(tensors["carried/0"].size(0), 3)}, said),
        ({name: tensor.double() for name, tensor in tensors.items()}, said),
        (tensors, {"notes": {}}),
        (tensors, said | {"position": {"step": "many"}}),
        (tensors, said | {"notes": {}}),
    ]
    for changed, words in forgeries:
        checkpoint.save_tensors(path, changed, words)
        with pytest.raises(RunError):
            list(job.resume(run, changes={}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(["model", "train", "data", "corpus", ""]), which=st.integers(0, 99), value=json_values)
def test_whatever_stands_in_a_config_it_opens_or_is_refused(run: Path, part: str, which: int, value: Any) -> None:
    original, config = (run / "config.json").read_bytes(), folder.read_json(run / "config.json")
    place = config[part] if part else config
    place[sorted(place)[which % len(place)]] = value
    folder.write_json(run / "config.json", config)
    try:
        charlm.load(run, device="cpu")
        json.dumps(folder.info(run).config)
    except CharlmError:
        pass
    finally:
        (run / "config.json").write_bytes(original)
