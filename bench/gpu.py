"""All that is to be known of charlm on a GPU, in few minutes: tests, speed of training and writing, quality.

    python -m bench gpu [TEXT] [--minutes 4] [--only STAGE …] [--device cuda|cpu] [--json FILE]

A row is printed, and saved, when it has been measured. Each stage has a share of the minutes, and what those before it
left over; what is expected to take longer is skipped, and says so. Quality is that of the defaults on TEXT with
nanoGPT's split: by default Tiny Shakespeare in $CHARLM_DATA, or else the largest text of `corpora/`. `peer` is
`generate` of the library transformers. On a CPU everything is tiny, to try the command.
"""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench._table import Row, machine, parser, rate, show
from bench.quality import Goal, measure
from bench.train import GPT, VOCABULARY, plain_gpt, plain_lstm, trainer
from bench.write import TRANSFORMER, build, charlm, transformers_peer
from charlm import presets
from charlm.device import peak_memory
from charlm.plan import Plan
from charlm.text.buckets import Buckets, EncodedLines
from charlm.training.loop import Trainer

ROOT = Path(__file__).parent.parent
COLUMNS = ["stage", "what", "how", "tokens/s", "MB", "peer", "of peer", "nats/char", "params", "seconds", "note"]
WIDE = GPT | {"precision": "bf16"}
LSTM = {"arch": "lstm", "hidden_size": 384, "batch_size": 16, "seq_len": 64}
TRAINED: dict[str, dict[str, Any]] = {
    "transformer": {"arch": "transformer"},
    "transformer 6 x 384, 16 x 256, bf16": WIDE,
    "nanogpt-char": presets.read("nanogpt-char"),
    **{name: {"arch": name} for name in ("lstm", "lstmcell", "gru", "transformer-xl", "reformer", "seq2seq", "encdec")},
    **{f"{name} on pairs": {"arch": name, "kind": "pairs"} for name in ("seq2seq", "encdec")},
}
COMPILED = ("nanogpt-char", "transformer 6 x 384, 16 x 256, bf16", "transformer")


class Case(NamedTuple):
    """One row to be measured."""

    what: str
    how: str
    seconds: float  # that it is expected to take
    work: Callable[[float], Row]  # given the seconds that are left


class Stage(NamedTuple):
    share: float  # of the minutes
    cases: Sequence[Case]


def rows(stages: dict[str, Stage], seconds: float, now: Callable[[], float] = time.perf_counter) -> Iterator[Row]:
    """A row for every case of every stage, in order: what was measured, or why it was not."""
    began, end = now(), 0.0
    shares = sum(stage.share for stage in stages.values())
    for name, stage in stages.items():
        end += seconds * stage.share / shares
        for case in stage.cases:
            row, started = {"stage": name, "what": case.what, "how": case.how}, now()
            left = began + end - started
            if case.seconds > left:
                yield row | {"note": f"skipped: it takes some {case.seconds:.0f} s, and {max(left, 0):.0f} are left"}
                continue
            try:
                row |= case.work(left)
            except Exception as error:  # so that what comes after it is measured
                row["note"] = last_line(error)
            yield {**row, "seconds": now() - started}


def last_line(error: Exception) -> str:
    """What went wrong, in a line: that of a command stands in its output."""
    if isinstance(error, (subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        said = error.stderr or error.stdout or b""
        text = said if isinstance(said, str) else said.decode(errors="replace")
        late = ["stopped, as it took too long"] if isinstance(error, subprocess.TimeoutExpired) else []
        return ": ".join([*late, *text.strip().splitlines()[-1:]]) or f"ended with {getattr(error, 'returncode', '')}"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}"


def tests(left: float) -> Row:
    """Those that are marked `gpu`, in processes side by side where there is pytest-xdist, and without other plugins."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if "pytest.mark.gpu\n" in path.read_text(encoding="utf-8")]
    command = [sys.executable, "-m", "pytest", *map(str, sorted(files)), "-m", "gpu", "-o", "addopts=", "-q"]
    command += ["--tb=line", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    command += ["-p", "xdist", "-n", str(min(8, os.cpu_count() or 1))] if find_spec("xdist") else []
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # charlm may not be installed
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=left, cwd=ROOT, env=environment)
    lines = (done.stdout + done.stderr).strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"note": "; ".join([*lines[-1:], *failed]), "output": "\n".join(lines[-60:])}


def forget(device: str) -> None:
    """Free what the case before left, and count memory anew."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def trained(settings: dict[str, Any], how: str, device: str, seconds: float, _: float) -> Row:
    """Tokens per second of a training: `eager`, `recorded` as CUDA graphs, or `compiled` and recorded."""
    forget(device)
    given = {name: value for name, value in settings.items() if name != "kind"}
    given |= {"steps": 10**9, "warmup": 0.0, "device": device, "compile": "on" if how == "compiled" else "off"}
    plan = Plan.of(given, kind=settings.get("kind", "text"))
    loop = pair_trainer(plan) if plan.kind == "pairs" else trainer(plan)
    if how == "eager":
        loop.recorder.on = loop.recorder.few_shapes = False
    steps = iter(loop)
    rate(lambda: next(steps), seconds=seconds if plan.kind == "pairs" else 0.0)  # until its shapes are recorded
    first, tokens = loop.position.step, loop.position.tokens
    per_second = rate(lambda: next(steps), seconds=seconds)
    mean = (loop.position.tokens - tokens) / (loop.position.step - first)
    notes = [loop.settings.precision, f"graphs: {loop.recorder.recorded}", *loop.recorder.notes]
    return {"tokens/s": per_second * mean, "MB": megabytes(device), "note": "; ".join(notes)}


def megabytes(device: str) -> float:
    return (peak_memory(torch.device(device)) or math.nan) / 1e6


def pair_trainer(plan: Plan) -> Trainer:
    """For random pairs of 8 to 63 tokens."""
    rng, settings = np.random.default_rng(0), plan.data

    def lines() -> EncodedLines:
        sizes = rng.integers(8, 64, size=4000)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        ids = rng.integers(1, VOCABULARY, size=offsets[-1], dtype=np.uint8)
        ids[offsets[1:] - 1] = 0  # the newline
        return EncodedLines(ids, offsets)

    return trainer(plan, Buckets.of_pairs(lines(), lines(), batch_tokens=settings.batch_tokens, seed=0))  # type: ignore[attr-defined]


def plain(loop: Callable[..., float], settings: Any, precision: str, device: str, seconds: float, _: float) -> Row:
    forget(device)
    speed = loop(settings, device, precision=precision, seconds=seconds)
    return {"tokens/s": speed, "MB": megabytes(device)}


def written(settings: dict[str, Any], streams: int, tokens: int, device: str, seconds: float, _: float) -> Row:
    """Tokens per second in so many streams, and those of transformers' `generate`."""
    forget(device)
    lstm = settings["arch"] == "lstm"
    model = build(**settings).to(device, torch.bfloat16 if device == "cuda" and not lstm else torch.float)
    row: Row = {"tokens/s": charlm(model, streams, tokens, seconds), "MB": megabytes(device)}
    if lstm:
        return row
    peer = transformers_peer(device, **{k: settings[k] for k in ("layers", "hidden_size", "heads")})
    if peer is None:
        return row | {"note": "transformers is not installed"}
    row["peer"] = peer(streams, True, max(1, tokens // 16), seconds)
    return row | {"of peer": row["tokens/s"] / row["peer"]}


def scored(arch: str, seconds: float, text: Path, device: str, left: float) -> Row:
    """Nats per character of the held-out tenth after so many seconds of training with the defaults."""
    with tempfile.TemporaryDirectory() as folder:
        row = measure(Goal(arch, seconds / 60, math.inf), text, Path(folder), device, left)
    return {"nats/char": row["nats_per_char"], "params": row["params"], "tokens/s": row["chars_per_second"]}


def stages(device: str, text: Path) -> dict[str, Stage]:
    """All that is measured, with shares of the time that suit four minutes on a GPU."""
    on_gpu = device == "cuda"
    seconds, expected, command = (1.2, 4.0, 15.0) if on_gpu else (0.02, 0.3, 4.0)  # of a round, a case, a command

    def fit(settings: dict[str, Any]) -> dict[str, Any]:
        """The settings, on a CPU tiny ones."""
        if on_gpu:
            return settings
        tiny: dict[str, Any] = {"hidden_size": 16, "layers": 1, "precision": "fp32"}
        tiny |= {"batch_tokens": 128} if "kind" in settings else {"batch_size": 2, "seq_len": 16}
        return {**settings, **tiny, **({"heads": 1} if "heads" in settings else {})}

    training = []
    for loop, settings, precision in ((plain_gpt, WIDE, "fp32"), (plain_gpt, WIDE, "bf16"), (plain_lstm, LSTM, "fp32")):
        work = partial(plain, loop, fit(settings), precision if on_gpu else "fp32", device, seconds)
        what = f"{loop.__name__.replace('_', ' ')} {settings['hidden_size']}, {precision}"
        training.append(Case(what, "PyTorch's layers", expected, work))
    for how in ("recorded", "eager", *(["compiled"] if on_gpu else [])):
        for what in COMPILED if how == "compiled" else TRAINED:
            work = partial(trained, fit(TRAINED[what]), how, device, seconds)
            training.append(Case(what, how, 45.0 if how == "compiled" else expected, work))
    writing = [
        Case(what, f"{streams} at once", 2 * expected, partial(written, settings, streams, tokens, device, seconds))
        for what, settings in (("transformer 6 x 384", fit(TRANSFORMER)), ("lstm 1 x 384", fit(LSTM)))
        for streams, tokens in (((1, 1000), (16, 1000), (256, 1000)) if on_gpu else ((1, 16), (2, 16)))
    ]
    quality = [
        Case(arch, f"{budget:g} s", budget + command, partial(scored, arch, budget, text, device))
        for arch in (("transformer", "lstm") if on_gpu else ("lstm",))
        for budget in ((20, 60, 80) if on_gpu else (1,))
    ]
    return {
        "tests": Stage(0.2, [Case("pytest -m gpu", "", command, tests)]),
        "training": Stage(0.3, training),
        "writing": Stage(0.1, writing),
        "quality": Stage(0.4, quality),
    }


def default_text() -> Path:
    """Tiny Shakespeare where it is at hand, or else the largest text that charlm comes with."""
    given = Path(os.environ.get("CHARLM_DATA", ""), "tinyshakespeare.txt")
    return given if given.is_file() else max((ROOT / "corpora").glob("*.txt"), key=lambda path: path.stat().st_size)


def main(argv: Sequence[str]) -> None:
    options, usable = parser(__doc__), "cuda" if torch.cuda.is_available() else "cpu"
    options.add_argument("text", type=Path, nargs="?", default=default_text())
    options.add_argument("--minutes", type=float, default=4, help="for all of it [default: 4]")
    options.add_argument("--only", nargs="+", choices=["tests", "training", "writing", "quality"], help="these stages")
    options.add_argument("--device", choices=["cpu", "cuda"], default=usable)
    args = options.parse_args(argv)
    chosen = {name: stage for name, stage in stages(args.device, args.text).items() if name in (args.only or [name])}
    show(rows(chosen, 60 * args.minutes), COLUMNS, args.json, title=machine(args.device))
