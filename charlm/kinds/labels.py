"""Labelled texts: each is a line of some class, and a model says of which."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.config import Lengths, TrainSettings
from charlm.kinds._agreement import agreement, confusion
from charlm.kinds._base import MEMORY, PARAMETERS, TRAINS, WORK, Column, Confusion, Kind, Trial
from charlm.progress import Progress
from charlm.text.corpus import Corpus
from charlm.text.label_store import LabelSettings, LabelSplit, LabelStore, lengths, prepare_labels, read_labels
from charlm.text.labels import LabelCorpus, holds_labels, named_as_labels
from charlm.text.vocabulary import Vocabularies

GLIMPSE_TEXTS = 4


class Labels(Kind):
    noun = "labelled texts"
    files = "a file of texts and labels (.tsv, .csv or .jsonl)"
    unit = "texts"
    Settings = LabelSettings
    own = ("batch_tokens", "max_length", "label_count", "split_seed")
    rows = "labels"
    like = ("text",)
    on_cuda = {}
    entrants = "lstm,transformer"
    batch_flags = "--batch-tokens or --max-length"
    batches = {
        name: getattr(LabelSettings, name) for name in ("batch_tokens", "max_length", "label_count", "split_seed")
    }
    figures = ("macro_f1", "mcc", "majority", "low", "high")
    columns = (
        Column("macro F1", "macro_f1", "{:.3f}", more=True),
        Column("MCC", "mcc", "{:.3f}", more=True),
        PARAMETERS,
        WORK,
        TRAINS,
        MEMORY,
    )
    option = "labels"
    scored = "{size} texts to be classified"
    uses = "it says to which class a text belongs; use charlm classify, or charlm eval"

    @classmethod
    def named(cls, file: str, encoding: str) -> bool:
        return named_as_labels(file, encoding)

    @classmethod
    def claims(cls, corpus: Corpus) -> bool:
        return holds_labels(corpus)

    @classmethod
    def of(cls, corpus: Corpus, targets: Corpus | None) -> LabelCorpus:  # noqa: ARG003
        return LabelCorpus(corpus)

    @classmethod
    def prepare(
        cls,
        corpus: LabelCorpus,
        settings: LabelSettings,
        cache_dir: Path | None,  # noqa: ARG003  they are few, and not cached
        vocabularies: Vocabularies | None = None,
    ) -> Generator[Progress, None, LabelStore]:
        return (yield from prepare_labels(corpus, settings, vocabularies))

    @classmethod
    def read(
        cls, corpus: LabelCorpus, settings: LabelSettings, vocabularies: Vocabularies
    ) -> Generator[Progress, None, LabelStore]:
        return (yield from read_labels(corpus, settings, vocabularies))

    @classmethod
    def lengths(cls, data: LabelSettings, train: TrainSettings) -> Lengths:  # noqa: ARG003
        return lengths(data)

    @classmethod
    def within(cls, window: int) -> dict[str, Any]:
        return {"max_length": min(LabelSettings.max_length, max(1, window - 2))}

    @classmethod
    def size(cls, part: LabelSplit) -> int:
        return part.count

    @classmethod
    def measured(cls, store: LabelStore) -> LabelSplit:
        """The test part, if there is one: of few texts, those that chose the best weights are told too well by them."""
        return store.test if store.test.count else store.validation

    @classmethod
    def glimpse(cls, writer: Any, store: LabelStore, seed: int) -> str:  # noqa: ARG003
        """The first held-out texts, and the class that each is taken for."""
        part = store.validation if store.validation.count else store.train
        texts = part.words(writer.tokenizer, GLIMPSE_TEXTS)
        true = [store.vocabularies.classes[label] for label in part.labels[:GLIMPSE_TEXTS]]
        lines = []
        for text, right, ((guess, share), *_) in zip(texts, true, writer.classify(texts), strict=True):
            wrong = "" if guess == right else f", and is {right}"
            lines.append(f"{text}\n  {guess} {share:.0%}{wrong}")
        return "\n".join(lines)

    @classmethod
    def trial(
        cls,
        writer: Any,
        part: LabelSplit,
        settings: Any = None,  # noqa: ARG003
        like: Any = None,  # noqa: ARG003
    ) -> Generator[Progress, None, Trial]:
        from charlm.objectives.classify import class_logits, label_score  # imports torch

        logits = yield from class_logits(writer.model, part.texts)
        classes = writer.vocabularies.classes
        counts = confusion(part.labels, logits.argmax(1), len(classes))
        figures = agreement(counts)._asdict()
        score = label_score(writer.model, part, logits)
        return Trial(score=score, figures=figures, confusion=Confusion(classes, counts.tolist()))

    @classmethod
    def equal(cls, parts: Sequence[LabelSplit]) -> bool:
        return len({part.numbers.tobytes() for part in parts}) < 2

    @classmethod
    def step_size(cls, plan: Any) -> object:
        return plan.train.accumulate, replace(plan.data, label_count=None)
