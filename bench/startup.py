"""Start-up: seconds from the start of a command to its end, or to its first character.

    python -m bench startup [--json FILE]

Importing torch is the least that a command takes that computes, importing Typer and rich the least of any other.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench._table import Row, machine, parser, show

TEXT = "to be or not to be, that is the question\n" * 100
ROUNDS = 5


def seconds(*words: str, folder: str, until_first: bool = False) -> float:
    """The time that Python takes for these arguments in `folder`, the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, cwd=folder) as process:
            assert process.stdout is not None
            process.stdout.read(1 if until_first else -1)
            best = min(best, time.perf_counter() - began)
            process.stdout.read()
    return best


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text.txt").write_text(TEXT)
        train = ["train", "text.txt", "--steps", "2", "--quiet", "--device", "cpu"]
        subprocess.run([sys.executable, "-m", "charlm", *train], cwd=folder, check=True)
        torch = seconds("-c", "import torch", folder=folder)
        yield {"command": "python -c 'import torch'", "seconds": torch}
        typer = seconds("-c", "import typer, rich", folder=folder)
        yield {"command": "python -c 'import typer, rich'", "seconds": typer}
        for words in (["--help"], ["runs"], ["archs"], ["presets"], ["sample", "--help"]):
            whole = seconds("-m", "charlm", *words, folder=folder)
            yield {"command": "charlm " + " ".join(words), "seconds": whole, "of typer and rich": whole / typer}
        first = seconds("-m", "charlm", "sample", "--length", "50", folder=folder, until_first=True)
        yield {"command": "charlm sample, first character", "seconds": first, "beyond torch": first - torch}


def main(argv: Sequence[str]) -> None:
    args = parser(__doc__).parse_args(argv)
    show(rows(), ["command", "seconds", "of typer and rich", "beyond torch"], args.json, title=machine())
