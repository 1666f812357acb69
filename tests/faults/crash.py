"""Kills real trainings with SIGKILL and sees that nothing was lost: `python tests/faults/crash.py --kills 60`.

Every plan is trained once undisturbed. Then it is started again and killed, at a random moment or in the middle of
writing a file, resumed and killed again. After each kill the run must open; in the end it must hold, bit for bit, what
the undisturbed one holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

import charlm
from charlm.runs import checkpoint, folder

COMMON = "--seq-len 32 --batch-size 8 --steps 150 --save-every 3 --eval-every 25 --device cpu --quiet".split()  # noqa: SIM905  as it is typed
PLANS = [
    "--arch lstm --hidden-size 256",
    "--arch transformer --layers 2 --hidden-size 64 --optimizer muon --ema 0.9",
    "--arch seq2seq --hidden-size 64 --accumulate 2",
    "--arch lstmcell --hidden-size 64 --tokenizer bpe --vocab-size 400 --order random",
    "--arch gru --hidden-size 128 --tokenizer byte --layers 2",
    "--arch rnn --hidden-size 128 --tokenizer word --vocab-size 600 --teacher-forcing 0.9",
]
TEXT = "".join(f"{n} green bottles, hanging on the wall, {n * n} in all;\n" for n in range(1, 700))


def start(*words: str) -> subprocess.Popen[bytes]:
    """A `charlm` process of one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": os.path.abspath("cache")}
    return subprocess.Popen([sys.executable, "-m", "charlm", *words], env=environment, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes], run: Path, after: float, *, in_a_save: bool) -> bool:
    """Kill at `after` seconds, or when a file is being written after that; False if it ended before."""
    until = time.monotonic() + after
    while process.poll() is None:
        if time.monotonic() > until and (not in_a_save or any(run.glob(".*.tmp"))):
            process.kill()
            process.wait()
            return True
        time.sleep(0.0002 if in_a_save else 0.005)
    assert process.returncode == 0, f"{process.args} ended with {process.returncode}"
    return False


def opens(run: Path) -> bool:
    """Whether there is a run already; one that is there must be whole."""
    if not folder.is_run(run):
        return False
    folder.info(run)
    charlm.load(run, weights="last", device="cpu")
    if (run / "model.safetensors").exists():
        charlm.load(run, weights="best", device="cpu")
    state, _ = checkpoint.load_tensors(run / "training.safetensors", lambda _name, _shape: True)
    assert all(tensor.isfinite().all() for tensor in state.values())
    return True


def differences(one: Path, other: Path) -> list[str]:
    """What two runs do not have in common, bit for bit."""
    found = []
    for name in ("model", "last", "training"):
        a, b = (checkpoint.load_tensors(run / f"{name}.safetensors", lambda *_: True)[0] for run in (one, other))
        found += [f"{name}: {key}" for key in a.keys() | b.keys() if key not in a or not torch.equal(a[key], b[key])]
    a, b = (
        [json.loads(line) | {"seconds": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (one, other)
    )
    return found + (["metrics.jsonl"] if a != b else [])


def torture(plan: str, kills: int, rng: random.Random) -> Iterator[str]:
    """Yields a word per kill: where it struck. Raises if anything was lost."""
    words = ["train", "text.txt", *COMMON, *plan.split()]
    straight, run = (Path(f"{plan.split()[1]}-{kind}") for kind in ("straight", "killed"))
    began = time.monotonic()
    assert start(*words, "--out", str(straight)).wait() == 0
    whole = time.monotonic() - began
    while True:
        begun = opens(run)
        if begun and folder.info(run).training["finished"]:
            assert differences(straight, run) == [], f"{plan}: lost or changed"
            shutil.rmtree(run)
            if not kills:
                return
            begun = False
        process = start("train", "--resume", str(run), "--quiet") if begun else start(*words, "--out", str(run))
        if not kills:
            assert process.wait() == 0
            assert not list(run.glob(".*.tmp")), "rubbish was left"
        elif kill(process, run, rng.uniform(0.4, 1.0) * whole, in_a_save=kills % 2 == 0):
            kills -= 1
            yield "while writing" if any(run.glob(".*.tmp")) else "while training" if begun else "while starting"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, struck = random.Random(asked.seed), Counter[str]()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        Path("text.txt").write_text(TEXT)
        for plan in PLANS:
            for where in torture(plan, -(-asked.kills // len(PLANS)), rng):
                struck[where] += 1
                print(f"{plan}: killed {where}", flush=True)
        os.chdir("/")
    print(f"{struck.total()} kills in {time.monotonic() - began:.0f} s, nothing lost: {dict(struck)}")


if __name__ == "__main__":
    main()
