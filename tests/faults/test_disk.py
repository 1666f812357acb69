"""Disks that are full, folders that may not be written to: real ones."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from safetensors.torch import load_file

import charlm
from charlm.cli.app import run as cli
from charlm.runs import folder

resource = pytest.importorskip("resource", reason="this system has no quotas for a process")

Typed = Callable[..., tuple[int, str, str]]
TRAIN = ("train", "verses.txt", "--hidden-size", "64", "--seq-len", "16", "--device", "cpu", "--out", "r/run")


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """A quota: longer files cannot be written, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes, where this process may mount one."""
    disk = tmp_path / "r"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only an administrator may mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("words", [["runs"], ["--help"], ["corpus", "list"]])
def test_an_output_that_is_full_is_told_in_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "charlm", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "charlm: the output cannot be read or written: No space left on device\n"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what a process takes")
@pytest.mark.usefixtures("verses")
def test_a_memory_that_is_full_is_told_in_one_line() -> None:
    code = """if True:
        import resource, sys, charlm.job
        from charlm.cli.app import run
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (400 << 20),) * 2)
        sys.exit(run("train verses.txt --hidden-size 4000 --steps 1 --device cpu --precision fp32 --quiet".split()))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.startswith("charlm: there is not enough memory; give a smaller --batch-size")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.usefixtures("verses")
def test_a_disk_that_fills_up_stops_nothing_and_spares_what_was_saved(small_disk: Path) -> None:
    """It fills while training, says so, and saves again as soon as there is room."""
    words = [*TRAIN, "--steps", "100000", "--save-every", "20", "--eval-every", "50"]
    process = subprocess.Popen([sys.executable, "-m", "charlm", *words], stdout=subprocess.PIPE, text=True)
    run = small_disk / "run"
    assert process.stdout is not None
    try:
        wait_for(lambda: (run / "model.safetensors").exists())
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        for line in process.stdout:
            if "cannot be written: No space left on device; training goes on" in " ".join(line.split()):
                break
        else:
            raise AssertionError("it said nothing of the full disk")
        full = folder.info(run).training["step"]
        charlm.load(run)  # whole
        load_file(run / "training.safetensors")
        ballast.unlink()
        wait_for(lambda: folder.info(run).training["step"] > full)
        process.send_signal(signal.SIGINT)
        assert "all saved; go on with: charlm train --resume r/run" in " ".join(process.stdout.read().split())
        assert process.wait() == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.usefixtures("verses")
def test_a_log_that_cannot_be_written_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """`charlm train … > train.log` on a disk that is full, or into a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "charlm", *TRAIN, "--steps", "5"]
    assert subprocess.run(command, stdout=writing, stderr=subprocess.PIPE).returncode == 0
    os.close(writing)
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert cli([*TRAIN[:-1], "r/full", "--steps", "5"]) == 0
    for name in ("run", "full"):
        assert folder.info(Path("r", name)).training["finished"]


@pytest.mark.usefixtures("verses")
def test_a_quota_that_no_checkpoint_fits_is_one_line_at_the_start(typed: Typed) -> None:
    """And leaves no run behind that could not be resumed."""
    with no_file_above(60_000):
        code, _, error = typed(*TRAIN, "--steps", "5")
    assert (code, error.count("\n")) == (2, 1)
    assert "training.safetensors cannot be written: " in error
    assert not folder.is_run(Path("r/run"))
    assert typed(*TRAIN, "--steps", "5")[0] == 0


@pytest.mark.usefixtures("verses")
def test_an_end_that_cannot_be_saved_is_said_and_made_up_for_later(typed: Typed) -> None:
    assert typed(*TRAIN, "--steps", "20", "--stop-after", "10", "--eval-every", "5")[0] == 0
    with no_file_above(60_000):
        code, out, _ = typed("train", "--resume", "r/run")
    assert code == 2
    assert "training goes on" in " ".join(out.split())
    assert folder.info(Path("r/run")).training["step"] == 10
    assert typed("train", "--resume", "r/run")[0] == 0
    assert folder.info(Path("r/run")).training["finished"]


def without_the_powers_of_root() -> None:
    """Root may write anywhere; the command that is started may not any more."""
    if os.getuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(24, 1, 0, 0, 0):  # drop CAP_DAC_OVERRIDE
        os._exit(77)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux can root be somebody else for a while")
@pytest.mark.usefixtures("verses")
def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path: Path, typed: Typed) -> None:
    assert typed(*TRAIN, "--steps", "5")[0] == 0
    Path("full").mkdir()
    commands = {
        "r/run/metrics.jsonl cannot be written: Permission": ("train", "--resume", "r/run", "--steps", "9"),
        "r/new cannot be made: Permission denied": (*TRAIN[:-1], "r/new", "--steps", "5"),
        "full cannot be written to: Permission denied": (*TRAIN[:-1], "full", "--steps", "5"),
    }
    typing = [*map(" ".join, commands.values()), "sample r/run --length 20"]
    code = "import sys; from charlm.cli.app import run; sys.exit(str([run(line.split()) for line in sys.argv[1:]]))"
    try:
        for path in (tmp_path / "r/run", tmp_path / "r", tmp_path / "full"):
            path.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", code, *typing],
            capture_output=True,
            text=True,
            preexec_fn=without_the_powers_of_root,
        )
    finally:
        for path in (tmp_path / "r/run", tmp_path / "r", tmp_path / "full"):
            path.chmod(0o755)
    if done.returncode == 77:
        pytest.skip("root's powers cannot be dropped here")
    *said, codes = done.stderr.splitlines()
    assert codes == "[2, 2, 2, 0]"  # reading works
    for message, line in zip(commands, said, strict=True):
        assert message in line
