"""Run folders: naming, finding, listing, and files that are either old or whole. Nothing here imports torch.

config.json             all settings, versions, seed, the corpus and its hash
tokenizer.json          the vocabulary
model.safetensors       the best weights
last.safetensors        the newest weights
training.safetensors    everything that resuming needs, in one file, so that it is always of one moment
training.json           how far training is and what it reached, for people and for `charlm runs`
metrics.jsonl           a line per validation
samples.txt             what it wrote on the way
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from charlm.errors import RunError

ROOT = Path("runs")
FORMAT = 1
CONFIG_KEYS = {"arch", "model", "train", "data", "seq_len", "params", "corpus", "tokenizer_sha256"}


class RunInfo(NamedTuple):
    """What is known of a run without opening its weights."""

    path: Path
    config: dict[str, Any]
    training: dict[str, Any]  # empty until the first checkpoint

    @property
    def bits_per_byte(self) -> float | None:
        """Of the best validation so far; None if there was none."""
        best = self.training.get("best")
        return best["bits_per_byte"] if best else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what was written reaches the disk, and only then takes the place of `path`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises `RunError` if the file is missing or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a whole run: {path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def claim(out: Path | None, name: str) -> Path:
    """Make the folder of a new run: `out`, or the first free one of `runs/NAME`, `runs/NAME-2`, …

    Raises `RunError` if `out` holds a run already, or if the folder cannot be made.
    """
    try:
        if out is not None:
            if is_run(out):
                raise RunError(f"{out} already holds a run; give another --out, or delete it first")
            out.mkdir(parents=True, exist_ok=True)
            return out
        for number in count(1):
            path = ROOT / (name if number == 1 else f"{name}-{number}")
            with suppress(FileExistsError):  # taken, perhaps by another training just now
                path.mkdir(parents=True)
                return path
    except OSError as error:
        raise RunError(f"{error.filename} cannot be made: {error.strerror}; give another --out") from None
    raise AssertionError("numbers do not end")


def is_run(path: Path) -> bool:
    return (path / "config.json").is_file()


def find(run: str | Path) -> Path:
    """The folder of a run: a path, a name under `runs/`, `last` (the newest) or `best` (the lowest bits per byte)."""
    for path in (Path(run), ROOT / run):
        if is_run(path):
            return path
    runs = list_runs()
    if run == "last" and runs:
        return runs[-1].path
    if run == "best":
        scored = [info for info in runs if info.bits_per_byte is not None]
        if scored:
            return min(scored, key=lambda info: info.bits_per_byte or 0.0).path
    names = [info.path.name for info in runs]
    if not names:
        raise RunError(f"no run {str(run)!r} here, and none under {ROOT}/ yet; train one with: charlm train FILE")
    close = difflib.get_close_matches(str(run), names, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise RunError(f"no run {str(run)!r}{hint}; charlm runs lists all {len(names)}")


def info(path: Path) -> RunInfo:
    """Raises `RunError` if the folder's JSON files cannot be read or come from a newer charlm."""
    config = read_json(path / "config.json")
    if isinstance(config, dict) and config.get("format", 0) > FORMAT:
        raise RunError(f"{path} was made by a newer charlm ({config.get('charlm')}); upgrade this one to open it")
    if not isinstance(config, dict) or not config.keys() >= CONFIG_KEYS:
        raise RunError(f"{path / 'config.json'} does not describe a run")
    training = read_json(path / "training.json") if (path / "training.json").exists() else {}
    return RunInfo(path, config, training)


def list_runs() -> list[RunInfo]:
    """Every readable run under `runs/`, the oldest first."""
    found = []
    for config in sorted(ROOT.glob("*/config.json"), key=lambda path: path.stat().st_mtime):
        try:
            found.append(info(config.parent))
        except RunError:
            continue  # one damaged run must not hide the others
    return found
