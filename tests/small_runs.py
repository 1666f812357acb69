"""Small trainings, whose runs tests look at."""

from __future__ import annotations

from pathlib import Path
from random import Random

from texts import FOX, VERSES, backwards

from charlm import archs, job, kinds
from charlm.model import LanguageModel
from charlm.plan import Plan
from charlm.text.corpus import Corpus
from charlm.text.pairs import PairCorpus

LANGUAGE_MODELS = [name for name in archs.names() if issubclass(archs.load(name), LanguageModel)]


def train_on_verses(folder: Path, **settings: object) -> None:
    """A small run in `folder`, beside its text."""
    train_on(VERSES, folder, **settings)


def train_on(words: str, folder: Path, **settings: object) -> None:
    """The same, on another text."""
    text = folder / "verses.txt"
    text.write_text(words, encoding="utf-8")
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


TOPICS = {
    "tree": ("oak", "ash", "elm", "fir"),
    "metal": ("tin", "steel", "iron", "lead"),
    "bird": ("owl", "wren", "kite"),
}


def labelled_words(count: int, seed: int = 0) -> str:
    """A table of so many labelled texts: a label's words, with others before and after."""
    rng, lines = Random(seed), []
    for _ in range(count):
        label = rng.choice(list(TOPICS))
        before, after = (rng.choices(("the", "of", "in", "wet", "we"), k=rng.randint(0, 3)) for _ in range(2))
        lines.append(f"{' '.join([*before, rng.choice(TOPICS[label]), *after])}\t{label}\n")
    return "".join(lines)


def train_on_labels(folder: Path, **settings: object) -> None:
    """A small run on labelled texts in `folder`, beside them."""
    (folder / "words.tsv").write_text(labelled_words(400), encoding="utf-8")
    sizes = {"hidden_size": 32, "steps": 100, "lr": 2e-2, "dropout": 0.0, "val_frac": 0.2}
    kind = kinds.load("labels")
    plan = Plan.of({"arch": "lstm", **sizes, **settings}, kind="labels")
    for _ in job.train(plan, kind.open([folder / "words.tsv"], (), "utf-8"), out=folder / "run"):
        pass
