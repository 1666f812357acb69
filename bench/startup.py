"""Start-up: from the return key to the end, or to the first character.

    python -m bench startup [--json FILE]

Importing torch is what anything that computes takes at least, importing Typer and rich what any page does.
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


def seconds(*words: str, place: str, until_first: bool = False) -> float:
    """The best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, cwd=place) as process:
            assert process.stdout is not None
            process.stdout.read(1 if until_first else -1)
            best = min(best, time.perf_counter() - began)
            process.stdout.read()
    return best


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "text.txt").write_text(TEXT)
        train = ["train", "text.txt", "--steps", "2", "--quiet", "--device", "cpu"]
        subprocess.run([sys.executable, "-m", "charlm", *train], cwd=place, check=True)
        torch = seconds("-c", "import torch", place=place)
        yield {"command": "python -c 'import torch'", "seconds": torch}
        typer = seconds("-c", "import typer, rich", place=place)
        yield {"command": "python -c 'import typer, rich'", "seconds": typer}
        for words in (["--help"], ["runs"], ["archs"], ["presets"], ["sample", "--help"]):
            took = seconds("-m", "charlm", *words, place=place)
            yield {"command": "charlm " + " ".join(words), "seconds": took, "of typer and rich": took / typer}
        first = seconds("-m", "charlm", "sample", "--length", "50", place=place, until_first=True)
        yield {"command": "charlm sample, first character", "seconds": first, "beyond torch": first - torch}


def main(argv: Sequence[str]) -> None:
    asked = parser(__doc__).parse_args(argv)
    show(rows(), ["command", "seconds", "of typer and rich", "beyond torch"], asked.json, where=machine())
