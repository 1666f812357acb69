"""Small models that nobody trained, opened as runs are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from charlm import archs, job
from charlm.config import DataSpec, Lengths, take
from charlm.plan import Plan
from charlm.text.corpus import Corpus
from charlm.text.tokenizers import CharTokenizer, Tokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

ALPHABET = '\n "()ABabcde'
CHARACTERS = CharTokenizer([ord(c) for c in ALPHABET], spell=False)
SMALL = {"layers": 2, "hidden_size": 16, "heads": 2, "dropout": 0.0}

Build = Callable[..., Writer]


@pytest.fixture
def build() -> Build:
    """`build("lstm", seq_len=16, layers=1)`: an architecture with random weights and by default an alphabet of 12."""

    def build_(arch: str, seq_len: int = 16, tokenizer: Tokenizer = CHARACTERS, **changes: Any) -> Writer:
        torch.manual_seed(0)
        kind = archs.load(arch)
        model = kind(take(kind.Config, {**SMALL, **changes}), DataSpec(tokenizer.vocab_size, Lengths.of_text(seq_len)))
        with torch.no_grad():  # branches that start at zero would hide what they do
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
        return Writer(model, Vocabularies(tokenizer, tokenizer))

    return build_


@pytest.fixture(scope="session")
def looking(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of a transformer and a seq2seq, trained for three steps."""
    folder = tmp_path_factory.mktemp("looking")
    text = folder / "text.txt"
    text.write_text("The lamp is out,\nthe tide is in.\n" * 30, encoding="utf-8")
    for arch in ("transformer", "seq2seq"):
        plan = Plan.of({"arch": arch, "hidden_size": 32, "seq_len": 16, "batch_size": 4, "steps": 3})
        for _ in job.train(plan, Corpus.open([text]), out=folder / arch, cache_dir=folder / "cache"):
            pass
    return {arch: folder / arch for arch in ("transformer", "seq2seq")}
