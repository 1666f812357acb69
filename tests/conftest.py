"""Shared by all tests: what counts as failed, one thread, real data where it is at hand, a small trained run."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
import torch
from clock import Time
from shared import shared
from small_runs import train_backwards, train_on_labels, train_on_verses, train_to_restore
from texts import VERSES

from charlm.cli.app import run
from charlm.kinds import text as text_kind

Report = TypeVar("Report", pytest.CollectReport, pytest.TestReport)

has_cuda = torch.cuda.is_available
torch.cuda.is_available = torch.backends.mps.is_available = lambda: False  # the same device everywhere
os.environ["OMP_NUM_THREADS"] = "1"  # of programs that tests start, too: several run at once
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore it
torch.set_num_threads(1)  # small models are faster so, and every run gives the same numbers
text_kind.TIMED_SECONDS = 0.05  # for which a speed is timed that no test judges

# Not in pyproject.toml: there they would also judge what other plugins say before the first test. Not for what wants a
# GPU: PyTorch warns on one of what is harmless, such as its mode that finds waits.
WARNINGS = "error", "ignore::DeprecationWarning:torch.*", "ignore::FutureWarning:torch.*"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--nothing-skipped", action="store_true", help="a skipped test fails, unless it wants a GPU or another system"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_gpu = pytest.mark.skipif(not torch.cuda.device_count(), reason="there is no GPU with CUDA")
    for item in items:
        wants_gpu = item.get_closest_marker("gpu")
        item.add_marker(no_gpu if wants_gpu else pytest.mark.filterwarnings(*WARNINGS))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return judged((yield), collector.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return judged((yield), item.config)


def judged(report: Report, config: pytest.Config) -> Report:
    """What was skipped has failed, if that was asked for; without the folder of real texts its tests cannot run, nor
    elsewhere those that are about Linux."""
    excuses = {"GPU", "administrator"} | (set() if "CHARLM_DATA" in os.environ else {"CHARLM_DATA"})
    excuses |= set() if sys.platform == "linux" else {"this system", "Windows", "Linux"}
    if report.skipped and config.getoption("--nothing-skipped"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(excuse in reason for excuse in excuses):
            report.outcome, report.longrepr = "failed", f"--nothing-skipped: {reason}"
    return report


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Every test in a folder of its own, with a cache of its own; and on a GPU, if it wants one."""
    monkeypatch.chdir(tmp_path)
    if request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(torch.cuda, "is_available", has_cuda)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    return iter([tmp_path])


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Type a command line: (exit code, standard output, standard error)."""

    def type_(*words: str | Path) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return type_


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    """Something arrives on standard input."""

    def say(text: str | bytes) -> None:
        given = io.BytesIO(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given))

    return say


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType, str, str], None]]:
    """Save a file as if it stood in a package: in a folder beside it, where processes that are started look, too."""
    saved: list[tuple[ModuleType, str]] = []
    early = tmp_path / "early"

    def save(package: ModuleType, name: str, code: str) -> None:
        folder = tmp_path / package.__name__
        for made in (folder, early):
            made.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
        if str(folder) not in package.__path__:
            package.__path__.append(str(folder))
            with (early / "sitecustomize.py").open("a", encoding="utf-8") as found:
                found.write(f"import {package.__name__} as package\npackage.__path__.append({str(folder)!r})\n")
        saved.append((package, name))

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(early), *sys.path]))
    yield save
    for package, name in saved:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        with suppress(ValueError):  # of a file in the same folder
            package.__path__.remove(str(tmp_path / package.__name__))


@pytest.fixture
def verses(tmp_path: Path) -> Path:
    """A small text as a file."""
    path = tmp_path / "verses.txt"
    path.write_text(VERSES, encoding="utf-8")
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """What trainings in this process take for the time."""
    monkeypatch.setattr("charlm.timer.now", time := Time())
    return time


def trained_once(name: str, factory: pytest.TempPathFactory, train: Callable[[Path], object]) -> Path:
    """The run that `train` makes in the folder that it is given."""
    with shared(name, factory) as folder:
        if not (folder / "run").exists():
            train(folder)
    return folder / "run"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was really trained, for a moment: tests may read it, not change it."""
    return trained_once("trained", tmp_path_factory, train_on_verses)


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run from another seed."""
    return trained_once("twin", tmp_path_factory, lambda folder: train_on_verses(folder, seed=1))


@pytest.fixture(scope="session")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer that was trained alike, which has a window."""
    return trained_once("windowed", tmp_path_factory, lambda folder: train_on_verses(folder, arch="transformer"))


@pytest.fixture(scope="session")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows its text by heart."""
    return trained_once("parrot", tmp_path_factory, lambda folder: train_on_verses(folder, steps=300))


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt to guess hidden tokens, mostly."""
    sizes = {"arch": "bert", "layers": 2, "hidden_size": 64, "batch_size": 16, "lr": 3e-3, "steps": 400}
    return trained_once("masked", tmp_path_factory, lambda folder: train_on_verses(folder, **sizes))


@pytest.fixture(scope="session")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt to guess each token from those before it and from those after it, somewhat."""
    sizes = {"arch": "elmo", "hidden_size": 24, "steps": 80}
    return trained_once("both-ways", tmp_path_factory, lambda folder: train_on_verses(folder, **sizes))


@pytest.fixture(scope="session")
def permuted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt to guess tokens in any order, mostly."""
    sizes = {"arch": "xlnet", "layers": 2, "hidden_size": 64, "batch_size": 16, "lr": 3e-3, "steps": 300}
    return trained_once("permuted", tmp_path_factory, lambda folder: train_on_verses(folder, **sizes))


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt a little of which tokens were replaced."""
    sizes = {"arch": "bert", "layers": 2, "hidden_size": 64, "batch_size": 16, "lr": 3e-3, "steps": 120}
    goal = {"objective": "replaced", "generator_width": 0.5}
    return trained_once("detector", tmp_path_factory, lambda folder: train_on_verses(folder, **sizes, **goal))


@pytest.fixture(scope="session")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that writes words backwards, mostly."""
    return trained_once("translator", tmp_path_factory, train_backwards)


@pytest.fixture(scope="session")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that restores damaged sentences about foxes, mostly."""
    return trained_once("restorer", tmp_path_factory, lambda folder: train_to_restore(folder, "denoise", 120))


@pytest.fixture(scope="session")
def filler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that fills the gaps in such, sometimes."""
    return trained_once("filler", tmp_path_factory, lambda folder: train_to_restore(folder, "span", 150))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells trees, metals and birds apart, mostly."""
    return trained_once("classifier", tmp_path_factory, train_on_labels)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser, without a window; without one the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if not program:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def data() -> Path:
    """The folder of real texts; without it the test is skipped."""
    folder = os.environ.get("CHARLM_DATA")
    if not folder:
        pytest.skip("CHARLM_DATA does not name the folder of real texts")
    return Path(folder)
