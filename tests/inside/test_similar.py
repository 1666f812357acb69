"""`charlm similar` shows where the training text is nearest to a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from charlm.config import DataSpec, Lengths, Settings
from charlm.errors import SettingsError
from charlm.inside.similar import APART, similar
from charlm.model import Encoder, Head
from charlm.objectives.causal import Causal
from charlm.progress import result
from charlm.runs import folder
from charlm.scoring import run_text
from charlm.text.store import Split, Store
from charlm.text.tokenizers import ByteTokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

Typed = Callable[..., tuple[int, str, str]]


class Reader(Encoder):
    """A convolution, as in CONTRIBUTING.md."""

    Config = Settings

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(Settings(), spec)
        torch.manual_seed(0)
        self.embed, self.around = nn.Embedding(256, 8), nn.Conv1d(8, 8, 5, padding=2)
        self.head = Head(8, spec)

    def encode(self, tokens: Tensor) -> Tensor:
        vectors: Tensor = self.around(self.embed(tokens).mT).mT
        return vectors


def stored(text: str) -> tuple[Vocabularies, Store]:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text).astype(np.uint8)
    whole, none = Split(ids, np.array([10]), len(text), len(ids)), Split(ids[:0], ids[:1], 0, 0)
    both = Vocabularies(tokenizer, tokenizer)
    return both, Store(both, whole, none, none, "")


def unit(vector: Tensor) -> np.ndarray:
    values: np.ndarray = vector.double().numpy()
    return values / np.linalg.norm(values)


@torch.no_grad()
def test_the_places_are_the_nearest_of_all_by_brute_force(trained: Path) -> None:
    """The text is read in some rows; each place knows all that stands before it in its row."""
    writer, store = Writer.load(trained), result(run_text(folder.info(trained)))
    ids, text = store.train.ids, "the lamp"
    asked = writer.tokenizer.encode("\n" + text)
    features = lambda ids: writer.model.features(torch.from_numpy(ids.astype(np.int64))[None], writer.model.start(1))  # noqa: E731
    query = unit(features(asked).hidden[0, -1])
    found = result(similar(writer, store, text, top=5))
    rows = len(ids) // 1024
    assert rows > 1
    cosines = np.full(len(ids), -np.inf)
    for row in range(rows):
        start = row * len(ids) // rows
        vectors = features(ids[start : start + len(ids) // rows]).hidden[0]
        cosines[start : start + len(vectors)] = [unit(vector) @ query for vector in vectors]
    assert found.compared == np.isfinite(cosines).sum()
    assert found.total == len(ids)
    known = writer.tokenizer.decode(ids.tolist())
    taken: list[int] = []
    for place in found.places:
        free = [n for n in range(len(ids)) if all(abs(n - other) >= APART for other in taken)]
        best = max(cosines[free])
        assert place.cosine == pytest.approx(best, abs=1e-4)
        taken.append(place.char - 1)  # a token is a character
        assert cosines[place.char - 1] == pytest.approx(place.cosine, abs=1e-4)
        assert known[: place.char].endswith(place.before)
        assert known[place.char :].startswith(place.after)
        assert place.line == 1 + known.count("\n", 0, place.char - 1)


@torch.no_grad()
def test_what_reads_both_ways_is_shown_as_much_as_it_is_asked_about() -> None:
    text = "é a few words\nand again a few words, and others\n" * 40
    vocabularies, store = stored(text)
    model = Reader(DataSpec(256, Lengths.of_text(16)))
    writer = Writer(model, vocabularies, objective=Causal())
    found = result(similar(writer, store, "few words", top=3))
    assert (found.compared, found.total) == (len(store.train) - 8, len(store.train))
    for place in found.places:
        assert place.cosine == pytest.approx(1, abs=1e-5)
        assert place.before.endswith("few words")
        assert text[: place.char].endswith(place.before)  # characters are counted, not bytes
    fewer = result(similar(writer, store, "few words", read=900))
    assert fewer.compared == 100
    with pytest.raises(SettingsError, match="17 tokens and the window of this run holds 16"):
        result(similar(writer, store, "a" * 17))


def test_a_part_of_the_text_is_said_to_be_a_part(trained: Path, typed: Typed) -> None:
    code, shown, _ = typed("similar", trained, "--text", "the lamp", "--read", "1000", "--top", "2")
    assert code == 0
    *_, last = shown.rstrip("\n").split("\n")
    assert last.startswith(("the nearest of 1,000 of ", "the nearest of 99"))


def test_as_json(trained: Path, typed: Typed) -> None:
    code, shown, _ = typed("similar", trained, "--text", "the lamp", "--top", "3", "--json")
    assert code == 0
    said: Any = json.loads(shown)
    assert said["text"] == "the lamp"
    assert [set(place) for place in said["places"]] == [{"cosine", "line", "char", "before", "after"}] * 3


def test_runs_that_it_does_not_fit_are_told_what_does(
    trained: Path, translator: Path, verses: Path, typed: Typed
) -> None:
    train = ["train", verses, "--arch", "word2vec", "--steps", "2", "--out", "words", "--quiet"]
    assert typed(*train)[0] == 0
    for run, words, why in [
        ("words", "lamp", "charlm neighbours"),
        (str(translator), "ab", "charlm translate"),
        (str(trained), "", "the text is empty"),
        (str(trained), "☂", "--unknown"),
    ]:
        code, _, said = typed("similar", run, "--text", words)
        assert code == 2
        assert why in said
