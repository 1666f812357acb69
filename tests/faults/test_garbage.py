"""Texts, prompts and numbers that nobody should give, and somebody will."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm import archs, job
from charlm.config import BUDGETS, DataSettings, Settings, TrainSettings, fields_of, take, without_none
from charlm.plan import Plan
from charlm.sampling.settings import Request, SampleSettings, TranslateSettings
from charlm.text.corpus import Corpus

Typed = Callable[..., tuple[int, str, str]]
TINY = ["--hidden-size", "8", "--seq-len", "16", "--batch-size", "4", "--steps", "3"]

GARBAGE = {
    "control characters": bytes(range(1, 32)) * 100,
    "NUL, far in": b"to be\n" * 3000 + b"\0" * 3000,
    "blanks": b"\n\t" * 1500,
    "one endless line": b"to be or not to be " * 2000,
    "one letter": b"a a\n" * 1000,
    "noise": random.Random(0).randbytes(3000).replace(b"\0", b"").decode("latin-1").encode(),
    "terminal escapes": "\x1b[2J\x1b]0;title\x07\u202e\ufeff\u200d".encode() * 200,
}


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word", "bpe", "bytebpe", "unigram"])
@pytest.mark.parametrize("text", GARBAGE)
def test_any_text_that_can_be_decoded_is_trained_on_and_written(typed: Typed, text: str, tokenizer: str) -> None:
    Path("text.txt").write_bytes(GARBAGE[text])
    code, _, error = typed("train", "text.txt", "--tokenizer", tokenizer, "--vocab-size", "400", *TINY)
    if text == "blanks" and tokenizer in ("bpe", "unigram"):
        assert code == 2
        assert f"nothing that {tokenizer} could learn from" in error
        return
    assert (code, error) == (0, "")
    assert typed("sample", "--length", "50")[0] == 0
    assert typed("eval")[0] == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_lone_surrogates_are_refused_with_their_place(typed: Typed, encoding: str) -> None:
    Path("text.txt").write_bytes("ab\n\ud800c".encode(encoding, "surrogatepass"))
    code, _, error = typed("train", "text.txt", "--encoding", encoding, *TINY)
    assert code == 2
    assert "line 2, byte" in error


def test_a_million_characters_are_refused_as_an_alphabet_and_spelled_otherwise(typed: Typed) -> None:
    million = "".join(chr(code) for code in range(32, 0x110000) if not 0xD800 <= code < 0xE000)
    Path("text.txt").write_text(million, encoding="utf-8")
    code, _, error = typed("train", "text.txt", *TINY)
    assert code == 2
    assert "1,112,032 different characters" in error
    for way in (["--min-count", "2"], ["--tokenizer", "byte"]):
        assert typed("train", "text.txt", *TINY, *way, "--quiet") == (0, "", "")


@pytest.mark.parametrize("arch", ["lstm", "transformer", "seq2seq"])
def test_a_prompt_of_a_megabyte_is_read(verses: Path, typed: Typed, arch: str) -> None:
    typed("train", verses, "--arch", arch, *TINY)
    Path("prompt.txt").write_text((verses.read_text() * 250)[:1_000_000])
    code, out, _ = typed("sample", "--prompt-file", "prompt.txt", "--length", "10")
    assert code == 0
    assert len(out) > 1_000_000


def test_an_empty_prompt_is_a_blank_page_and_an_empty_prompt_file_too(typed: Typed, trained: Path) -> None:
    Path("prompt.txt").touch()
    blank = typed("sample", trained, "--seed", "1", "--length", "30")
    assert blank == typed("sample", trained, "--seed", "1", "--length", "30", "--prompt-file", "prompt.txt")
    assert blank[0] == 0


MEMORY = """
import resource, sys
from charlm.cli.app import run
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(["sample", sys.argv[1], "--length", "2000"])
before = peak()
run(["sample", sys.argv[1], "--length", "20_000"])
print((peak() - before) // (1 << 10 if sys.platform == "darwin" else 1), file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_ten_million_tokens_would_take_no_more_memory_than_two_thousand(trained: Path) -> None:
    """By the slope: 20,000 tokens need hardly more than 2,000, and a hundred bytes kept of each would be 2 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY, trained], capture_output=True, text=True, check=True)
    assert len(done.stdout) > 20_000
    assert int(done.stderr) < 1500  # kB


GROUPS = [TrainSettings, DataSettings, Request, TranslateSettings]
GROUPS += [archs.load(name).Config for name in archs.names()]


def numbers(group: type[Settings]) -> Iterator[Any]:
    return (field for field in fields_of(group) if without_none(field.type)[0] in (int, float))


def test_every_number_has_two_bounds() -> None:
    for group in GROUPS:
        assert list(numbers(group))
        for field in numbers(group):
            assert field.arg.min is not None, field.flag
            assert field.arg.max is not None, field.flag


def at_bounds() -> Iterator[tuple[str, float]]:
    """Numbers of training and text that are computed with, each as small and as large as it may be."""
    for group in (TrainSettings, DataSettings):
        for field in numbers(group):
            if field.name not in (*BUDGETS, "accumulate", "val_frac", "test_frac"):
                yield field.name, field.arg.min
                yield field.name, field.arg.max


@pytest.mark.parametrize(("name", "value"), list(at_bounds()))
def test_a_number_at_its_bound_is_trained_with(verses: Path, name: str, value: float) -> None:
    sizes = {"hidden_size": 8, "layers": 1, "seq_len": 16, "batch_size": 4, "tokenizer": "word", "steps": 2}
    kind = next(
        without_none(f.type)[0] for group in (TrainSettings, DataSettings) for f in fields_of(group) if f.name == name
    )
    plan = Plan.of({**sizes, name: kind(value)})
    list(job.train(plan, Corpus.open([verses]), out=Path("r")))
    assert len(charlm.load("r", weights="last").sample(length=5))


@pytest.mark.parametrize("setting", [f.name for f in fields(SampleSettings) if f.name != "temperature"])
def test_a_sampling_number_at_its_bound_writes(trained: Path, setting: str) -> None:
    writer = charlm.load(trained)
    field = next(field for field in fields_of(SampleSettings) if field.name == setting)
    for value in (field.arg.min, field.arg.max):
        request = take(Request, {"prompt": "PEG", "length": 20, setting: without_none(field.type)[0](value)})
        assert len(list(writer.pieces(request))) == 20


def test_every_promise_names_a_test_that_exists() -> None:
    root = Path(__file__).parents[2]
    promises = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (root / "docs/reliability.md").read_text(encoding="utf-8"))
    assert len(promises) > 25
    for file, name in promises:
        assert f"def {name}(" in (root / file).read_text(encoding="utf-8"), f"{file}::{name}"
