"""Ingestion: megabytes of text per second from a file to ids, vocabulary included, and the memory that it takes.

    python -m bench ingest TEXT [--megabytes 100] [--json FILE]

TEXT is repeated to that size. `sentencepiece MB/s` is SentencePiece's own encoder on the same text in one thread.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench._table import Row, machine, parser, show

WORK = """
import re, resource, sys, time
from pathlib import Path
from charlm.config import DataSettings
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.text.store import prepare
text, cache, kind = sys.argv[1:]
status = Path("/proc/self/status")
def peak_memory():  # megabytes of this process; ru_maxrss may include those of its parent
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1000)
before = peak_memory()
began = time.perf_counter()
store = result(prepare(Corpus.open([text]), DataSettings(tokenizer=kind), Path(cache)))
spent = time.perf_counter() - began
peak = peak_memory() - before
peer = 0.0
if kind in ("bpe", "unigram"):
    lines = Path(text).read_text()[:5_000_000].split("\n")
    began_peer = time.perf_counter()
    store.tokenizer._pieces.encode(lines, num_threads=1)
    peer = sum(map(len, lines)) / 1e6 / (time.perf_counter() - began_peer)
print(Path(text).stat().st_size / 1e6 / spent, peak, peer)
"""


def rows(source: Path, megabytes: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        content = source.read_bytes()
        with text.open("wb") as file:
            for _ in range(max(1, megabytes * 1_000_000 // len(content))):
                file.write(content)
        for kind in ("char", "byte", "word", "bpe", "bytebpe", "unigram"):
            command = [sys.executable, "-c", WORK, str(text), str(Path(folder, kind)), kind]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            speed, peak, peer = map(float, output.split())
            yield {"tokenizer": kind, "MB/s": speed, "peak MB": peak, "sentencepiece MB/s": peer or ""}


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("text", type=Path)
    options.add_argument("--megabytes", type=int, default=100)
    args = options.parse_args(argv)
    columns = ["tokenizer", "MB/s", "sentencepiece MB/s", "peak MB"]
    show(rows(args.text, args.megabytes), columns, args.json, title=machine())
