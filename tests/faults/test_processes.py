"""torchrun, for real: several processes make one run, and survive that one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import crash
import pytest
import torch
from torch import distributed

from charlm.runs import checkpoint, folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL"),
    pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]
WORDS = (
    "train text.txt --arch lstm --hidden-size 24 --dropout 0 --batch-size 6 --seq-len 16 --device cpu --precision fp32"
)


@pytest.fixture(autouse=True)
def text() -> None:
    Path("text.txt").write_text(crash.TEXT)


def launch(options: str, words: str) -> subprocess.Popen[str]:
    """torchrun with these options, and a command line of charlm."""
    command = [sys.executable, "-m", "torch.distributed.run", *options.split(), "-m", "charlm", *words.split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": os.path.abspath("cache")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def weights(run: str) -> dict[str, torch.Tensor]:
    return checkpoint.load_tensors(Path(run, "last.safetensors"), lambda *_: True)[0]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_of_two_processes_is_the_run_of_one_and_goes_on_alone(parallel: str) -> None:
    words = f"{WORDS} --steps 40 --eval-every 10 --stop-after 30 --out two --parallel {parallel}"
    two = launch("--standalone --nproc-per-node 2", words)
    out, errors = two.communicate(timeout=200)
    assert two.returncode == 0, errors
    assert "Warning" not in errors
    assert f"2 processes, each {'with a part of every weight, ' if parallel == 'fsdp' else ''}on the CPU" in out
    assert out.count("model: ") == 1, "one of them speaks"
    assert crash.start("train", "--resume", "two", "--quiet").wait() == 0
    assert crash.start(*WORDS.split(), *["--steps", "40", "--eval-every", "10", "--out", "one", "--quiet"]).wait() == 0
    for name, value in weights("one").items():
        torch.testing.assert_close(weights("two")[name], value, atol=1e-4, rtol=1e-3)
    names = [sorted(path.name for path in Path(run).iterdir() if path.name != "samples.txt") for run in ("one", "two")]
    assert names[0] == names[1]
    scores = [[entry["bits_per_byte"] for entry, _ in folder.metrics(Path(run))] for run in ("one", "two")]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


def test_when_a_process_is_killed_all_begin_again_where_the_last_checkpoint_stands() -> None:
    words = f"{WORDS} --steps 400 --save-every 5 --eval-every 100 --quiet"
    straight = launch("--standalone --nproc-per-node 2", f"{words} --out straight")
    straight.communicate(timeout=200)
    killed = launch("--standalone --nproc-per-node 2 --max-restarts 2", f"{words} --out killed")
    while not (folder.is_run(Path("killed")) and folder.info(Path("killed")).training["step"] >= 20):
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.05)
    os.kill(second_process(killed.pid), signal.SIGKILL)
    _, errors = killed.communicate(timeout=200)
    assert killed.returncode == 0, errors
    assert "Traceback" not in errors.partition("torch/distributed")[0]
    assert folder.info(Path("killed")).training["finished"]
    for name, value in weights("straight").items():
        assert torch.equal(weights("killed")[name], value), name


def second_process(parent: int) -> int:
    """The process of rank 1 among the children of torchrun."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        pid = int(status.parent.name)
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                environment = (status.parent / "environ").read_bytes().split(b"\0")
                if b"RANK=1" in environment:
                    return pid
        except OSError:
            continue
    raise AssertionError("no such process")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--batch-size 1", "2 processes share the 1 rows of a batch; give a larger --batch-size"),
        ("--ngram 5", "--ngram belongs to transformer"),
        ("--parallel tensor", "--parallel tensor splits the layers of transformer, and not those of LSTM"),
    ],
)
def test_an_error_is_one_message(change: str, message: str) -> None:
    process = launch("--standalone --nproc-per-node 2", f"{WORDS} --steps 2 {change}")
    _, errors = process.communicate(timeout=200)
    said = [line for line in errors.splitlines() if "charlm: " in line]
    assert process.returncode
    assert len(said) == 1, errors
    assert message in said[0]
