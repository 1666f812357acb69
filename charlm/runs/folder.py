"""Run folders: how they are named, found and listed, and their JSON files. Imports no torch.

config.json             all settings, versions, seed, the corpus and its hash
tokenizer.json          the vocabulary
model.safetensors       the best weights
last.safetensors        the newest weights
training.safetensors    everything that resuming needs, in one file, so that it is always of one moment
previous.safetensors    the checkpoint before that one
training.json           how far training is and what it reached, for people and for `charlm runs`
metrics.jsonl           a line per validation
samples.txt             texts that it wrote during the training

A JSON file has a hash of its content in it. A run may come from anywhere, so nothing in it is trusted: a file that is
damaged, of absurd size, or a link to outside the run is refused.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from charlm import kinds, objectives
from charlm.errors import RunError
from charlm.files import LARGEST_JSON, bounded, in_shell, replacing
from charlm.score import BITS, Measure, Score

ROOT = Path("runs")
FORMAT = 2
CONFIG = {  # what config.json must have
    "kind": str,
    "arch": str,
    "model": dict,
    "train": dict,
    "data": dict,
    "lengths": dict,
    "objective": dict,
    "rows": int,
    "params": int,
    "corpus": dict,
    "tokenizer_sha256": str,
}
CORPUS = {"name": str, "paths": list, "targets": list, "sha256": str}


class RunInfo(NamedTuple):
    """What is known of a run without opening its weights."""

    path: Path
    config: dict[str, Any]
    training: dict[str, Any]  # empty until the first checkpoint

    @property
    def best(self) -> Score | None:
        """The score of the best validation so far; None if there was none."""
        with suppress(KeyError, TypeError, ValueError):
            return Score.from_json(self.training["best"])
        return None

    @property
    def measure(self) -> Measure:
        """The measure of its scores; bits per byte if there are none yet."""
        return self.best.measure if self.best else BITS

    @property
    def kind(self) -> str:
        """The kind of data that it was trained on."""
        return str(self.config["kind"])


def append(path: Path, text: str) -> None:
    """Add to a log, all of `text` or nothing. Raises `RunError` if the disk is full or may not be written to."""
    if os.path.lexists(path):
        plain_file(path)
    try:
        with path.open("ab") as file:
            end = file.tell()
            try:
                file.write(text.encode("utf-8", "replace"))
                file.flush()
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a run against a second training. Raises `RunError` if one runs already, or if the folder is read-only.

    The lock is one of the operating system and ends with its process, however that ends; only an empty file stays.
    """
    if (path / ".lock").is_symlink():
        raise RunError(f"{path / '.lock'} is a link, perhaps to a file that should not be touched; delete it")
    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"{path} is being trained by another process; wait for its end, or stop it first") from None
    except OSError as error:
        raise RunError(f"{path} cannot be written to: {error.strerror}; copy it to where it can") from None
    try:
        for temporary in path.glob(".*.tmp"):  # left by a process that was killed while it saved
            temporary.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process trains the run now."""
    file = path / ".lock"
    if file.is_symlink() or not file.exists():
        return False
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # in a read-only folder nothing is trained
        return False
    lock.release()
    return False


def plain_file(path: Path) -> Path:
    """`path`, if it is a regular file inside its run. Raises `RunError` for a link out of it, a pipe and the like."""
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a whole run: {path.name} is missing") from None
    except (OSError, RuntimeError) as error:  # a link to itself
        raise RunError(f"{path} cannot be read: {error}") from None
    if not real.is_relative_to(path.parent.resolve()):
        raise RunError(f"{path} is a link to {real}, out of its run; put the file itself there if you trust it")
    if not real.is_file():
        raise RunError(f"{path} is no file")
    return path


def digest(name: str, value: Any) -> str:
    """SHA-256 of the content of a JSON file and of its name, so that one file cannot replace another."""
    return hashlib.sha256(json.dumps([name, value], sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a value with its hash. Raises `RunError` if it cannot be written."""
    text = json.dumps(value | {"sha256": digest(path.name, value)}, indent=1, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogatepass"))  # names of files may have lone surrogates


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote. Raises `RunError` if the file is missing, damaged, or was changed since."""
    try:
        value = json.loads(bounded(plain_file(path)).decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if isinstance(value, dict) and "model_type" in value:
        command = f"charlm import {in_shell(path.parent)}"
        raise RunError(f"{path.parent} is no run but a model of Hugging Face's library: {command}")
    if not isinstance(value, dict) or value.pop("sha256", None) != digest(path.name, value):
        raise RunError(f"{path} is damaged or was edited: its checksum is not that of what it says")
    return value


def metrics(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """(value, line) of every line of a run's metrics.jsonl, without those that a killed process left incomplete."""
    file = path / "metrics.jsonl"
    if not os.path.lexists(file):
        return
    if plain_file(file).stat().st_size > LARGEST_JSON:
        raise RunError(f"{file} is damaged: no such file is so large; delete it, it is only for people")
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        with suppress(ValueError, KeyError, TypeError, OverflowError):
            entry = json.loads(line)
            entry["step"] = int(entry["step"])
            yield entry, line + "\n"


def claim(out: Path | None, name: str) -> Path:
    """Make the folder of a new run: `out`, or the first free one of `runs/NAME`, `runs/NAME-2`, …

    Raises `RunError` if `out` holds a run already, or if the folder cannot be made.
    """
    try:
        if out is not None:
            if is_run(out):
                raise RunError(f"{out} already holds a run or another model; give another --out")
            out.mkdir(parents=True, exist_ok=True)
            return out
        ROOT.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = ROOT / (name if number == 1 else f"{name}-{number}")
            with suppress(FileExistsError):  # taken, perhaps by another training just now
                path.mkdir()
                return path
    except OSError as error:
        raise RunError(f"{error.filename} cannot be made: {error.strerror}; give another --out") from None
    raise AssertionError("numbers do not end")


def is_run(path: Path) -> bool:
    return os.path.lexists(path / "config.json")


def find(run: str | Path, *, kind: str | None = None, command: str | None = None) -> Path:
    """The folder of a run: a path, a name under `runs/`, `last` (the newest run) or `best` (`best_of`).

    For `last` and `best` only runs count that were trained on this `kind` of data, and with an objective whose runs are
    for this `command` (empty: that go on with a text), if they are given. Raises `RunError` if there is no such run.
    """
    for path in (Path(run), ROOT / run):
        if is_run(path):
            return path
    runs = list_runs()
    able = objectives.of_command(command) if command is not None and run in ("last", "best") else None
    wanted = [info for info in runs if kind in (None, info.kind)]
    if able is not None:
        wanted = [info for info in wanted if info.config["objective"].keys() & able]
    if run == "last" and wanted:
        return wanted[-1].path
    if run == "best" and (best := best_of(wanted)):
        return best.path
    names, compared = [info.path.name for info in runs], comparison_runs()
    if not (names or compared):
        raise RunError(f"no run {str(run)!r} here, and none under {ROOT}/ yet; train one with: charlm train FILE")
    if run in ("last", "best"):
        if not names:
            raise RunError(f"no run {str(run)!r} here but those of comparisons; name one, such as {compared[0]}")
        goals = f" with --objective {' or '.join(sorted(able))}" if able else ""
        lacks = "was validated" if wanted or kind is None else f"was trained on {kinds.load(kind).noun}{goals}"
        raise RunError(f"none of the {len(names)} runs here {lacks}; charlm runs lists them")
    known = {Path(name).name: name for name in compared} | {name: name for name in (*names, *compared)}
    close = difflib.get_close_matches(str(run), known, 1)
    hint = f" (did you mean {known[close[0]]!r}?)" if close else ""
    raise RunError(f"no run {str(run)!r}{hint}; charlm runs lists those there are")


def best_of(runs: Sequence[RunInfo]) -> RunInfo | None:
    """The run with the best score, among those that compare with the newest scored one; None if none has a score.

    They have its measure and, unless that compares across vocabularies, its vocabulary.
    """
    scored = [(info, info.best) for info in runs if info.best]
    if not scored:
        return None
    newest, newest_score = scored[-1]
    measure, own = newest_score.measure, newest.config.get("tokenizer_sha256")
    comparable = [
        (info, score)
        for info, score in scored
        if score.measure == measure and (measure.across or info.config.get("tokenizer_sha256") == own)
    ]
    best, _ = (max if measure.more else min)(comparable, key=lambda pair: pair[1].value)
    return best


def info(path: Path) -> RunInfo:
    """What a run's JSON files say. Raises `RunError` if they cannot be read or another charlm wrote them."""
    config = read_json(path / "config.json")
    if config.get("format") != FORMAT:
        raise RunError(f"{path} was made by another charlm ({config.get('charlm')}); open it with that one")
    if not (has_fields(config, CONFIG) and has_fields(config["corpus"], CORPUS)):
        raise RunError(f"{path / 'config.json'} does not describe a run")
    try:
        training = read_json(path / "training.json") if (path / "training.json").exists() else {}
    except RunError as error:
        raise RunError(f"{error}; delete it: it is only for people, and the next save writes it anew") from None
    return RunInfo(path, config, training)


def has_fields(value: dict[str, Any], types: Mapping[str, type]) -> bool:
    return all(isinstance(value.get(name), type) for name, type in types.items())


def comparison_runs() -> list[str]:
    """The names under `runs/` of runs that belong to comparisons, such as X-compare/lstm-0."""
    inner = (path.parent for path in ROOT.glob("*/*/config.json"))
    return sorted(path.relative_to(ROOT).as_posix() for path in inner if not is_run(path.parent))


def list_runs() -> list[RunInfo]:
    """Every readable run under `runs/`, the oldest first."""
    runs = []
    for config in sorted(ROOT.glob("*/config.json"), key=lambda path: path.stat().st_mtime):
        try:
            runs.append(info(config.parent))
        except RunError:
            continue  # one damaged run must not hide the others
    return runs
