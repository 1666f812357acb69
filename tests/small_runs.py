"""Small trainings, whose runs tests look at."""

from __future__ import annotations

from pathlib import Path

from texts import FOX, VERSES, backwards

from charlm import archs, job
from charlm.model import LanguageModel
from charlm.plan import Plan
from charlm.text.corpus import Corpus
from charlm.text.pairs import PairCorpus

LANGUAGE_MODELS = [name for name in archs.names() if issubclass(archs.load(name), LanguageModel)]


def train_on_verses(folder: Path, **settings: object) -> None:
    """A small run in `folder`, beside its text."""
    text = folder / "verses.txt"
    text.write_text(VERSES, encoding="utf-8")
    sizes = {"hidden_size": 48, "seq_len": 32, "batch_size": 8, "steps": 60, "lr": 1e-2}
    plan = Plan.of({"arch": "lstm", "dropout": 0.0, **sizes, **settings})
    for _ in job.train(plan, Corpus.open([text]), out=folder / "run", cache_dir=folder / "cache"):
        pass


def train_backwards(folder: Path) -> None:
    """A small run on pairs in `folder`, beside them."""
    sizes = {"hidden_size": 48, "batch_tokens": 256, "steps": 250, "lr": 1e-2, "dropout": 0.0, "val_frac": 0.2}
    plan = Plan.of({"arch": "seq2seq", "attention": "additive", "tokenizer": "char", **sizes}, kind="pairs")
    for _ in job.train(plan, PairCorpus.open([backwards(folder / "back.tsv")]), out=folder / "run"):
        pass


def train_to_restore(folder: Path, objective: str, steps: int) -> None:
    """A small run in `folder` that restores one sentence, beside its text."""
    text = folder / "fox.txt"
    text.write_text(FOX * 120, encoding="utf-8")
    sizes = {"hidden_size": 48, "seq_len": 24, "batch_size": 16, "steps": steps, "lr": 1e-2, "dropout": 0.0}
    plan = Plan.of({"arch": "seq2seq", "bidirectional": True, "objective": objective, "val_frac": 0.1, **sizes})
    for _ in job.train(plan, Corpus.open([text]), out=folder / "run", cache_dir=folder / "cache"):
        pass
