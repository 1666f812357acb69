"""A kind of data is one file: nothing else is edited, and it is trained on, resumed, scored and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from charlm import kinds
from charlm.comparing import cells
from charlm.comparing.rows import Row, Trained, verdict
from charlm.comparing.run import Comparison
from charlm.config import TrainSettings, fields_of
from charlm.errors import SettingsError
from charlm.plan import Plan
from charlm.runs import folder
from charlm.runs.standing import Point
from charlm.score import Measure, Score

ROOT = Path(kinds.__file__).parents[1]
Typed = Callable[..., tuple[int, str, str]]

GENOME = '''"""Bases of a genome, in FASTA files: lines that begin with > are names, and not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from charlm.config import Arg, DataSettings
from charlm.kinds._base import Kind
from charlm.text.store import Split, Store
from charlm.text.vocabulary import Vocabularies, train_tokenizer


@dataclass(frozen=True)
class GenomeSettings(DataSettings):
    backwards: Annotated[bool, Arg("read from the other end")] = False


class Genome(Kind):
    noun = "bases of a genome"
    unit = "bases"
    Settings = GenomeSettings
    own = (*Kind.own, "backwards")
    arch = "gru"

    @classmethod
    def named(cls, file, encoding):
        return file.endswith(".fa")

    @classmethod
    def claims(cls, corpus):
        return all(path.suffix == ".fa" for path in corpus.paths)

    @classmethod
    def prepare(cls, corpus, settings, cache_dir, vocabularies=None):
        yield from corpus.survey()
        text = "".join(line for line in "".join(corpus.chunks()).split("\\n") if not line.startswith(">"))
        text = text[::-1] if settings.backwards else text
        if vocabularies is None:
            tokenizer = yield from train_tokenizer(settings, lambda: iter([text]))
            vocabularies = Vocabularies(tokenizer, tokenizer)
        ids = vocabularies.target.encode(text).astype(np.uint8)
        cuts = [round(len(text) * share) for share in (settings.val_frac, settings.test_frac)]
        ends = 0, len(ids) - sum(cuts), len(ids) - cuts[1], len(ids)
        start = np.array([vocabularies.target.start])
        parts = [Split(ids[a:b], ids[max(0, a - 99) : a] if a else start, b - a, b - a) for a, b in zip(ends, ends[1:])]
        return Store(vocabularies, *parts, corpus.sha256, corpus.notes)

    @classmethod
    def read(cls, corpus, settings, vocabularies):
        whole = cls.Settings(**settings.to_dict() | {"val_frac": 0.0, "test_frac": 0.0})
        return (yield from cls.prepare(corpus, whole, None, vocabularies))
'''


def bases(file: Path, seed: int) -> Path:
    """In which every other base is an A."""
    rng = Random(seed)
    lines = ["".join(f"A{rng.choice('CGT')}" for _ in range(30)) for _ in range(60)]
    file.write_text("".join(f">part {number}\n{line}\n" for number, line in enumerate(lines)))
    return file


@pytest.fixture
def genome(tmp_path: Path, beside: Callable[[ModuleType, str, str], None]) -> Path:
    """Bases in a file, and their kind in another."""
    beside(kinds, "genome", GENOME)
    return bases(tmp_path / "genome.fa", 0)


SMALL = ("--hidden-size", "16", "--seq-len", "16", "--lr", "0.02", "--precision", "fp32")


def test_a_new_kind_is_trained_on_resumed_and_scored_from_the_command_line(genome: Path, typed: Typed) -> None:
    code, said, why = typed("train", genome, "--backwards", *SMALL, "--steps", "80", "--stop-after", "40", "--out", "a")
    assert code == 0, why
    assert "3240 train, 180 validation, 180 test bases" in said
    assert "model: gru" in said
    code, said, why = typed("train", "--resume", "a")
    assert code == 0, why
    assert said.rstrip().endswith("next: charlm eval a")
    assert json.loads(Path("a/config.json").read_text())["kind"] == "genome"
    score = json.loads(typed("eval", "a", "--json")[1])
    assert score["chars"] == 180
    assert 0.5 * 1.58 < score["bits_per_byte"] < 0.65 * 1.58  # half of the bases are one of three
    other = bases(genome.with_name("other.fa"), 1)
    assert 0.7 < json.loads(typed("eval", "a", "--text", other, "--json")[1])["bits_per_byte"] < 1.1


@pytest.mark.slow
def test_a_new_kind_is_compared(genome: Path, typed: Typed) -> None:
    _, _, *small = SMALL
    entrants = "lstm:hidden_size=16,gru:hidden_size=16"
    code, said, why = typed("compare", genome, "--arch", entrants, *small, "--steps", "30")
    assert code == 0, why
    assert "180 bytes to be scored on" in said
    assert "bits per byte less than" in said
    runs = sorted(str(path.parent) for path in Path("runs").glob("*/*/config.json"))
    again = json.loads(typed("compare", *runs, "--json")[1])
    assert again["text"]["bases"] == 180
    assert {row["model"] for row in again["rows"]} == {Path(run).name for run in runs}
    assert again["rows"][0]["bits_per_byte"] > 0.7


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["train", "TEXT", "--backwards"], "--backwards is for bases of a genome"),
        (
            ["train", "GENOME", "--max-length", "9"],
            "or for pairs of source and target: a .tsv or .jsonl file, with --arch",
        ),
        (["sample", "RUN"], "this run was trained on bases of a genome"),
        (["translate", "RUN", "TEXT"], "this run was trained on bases of a genome"),
        (["eval", "RUN", "--pairs", "GENOME"], "trained on bases of a genome; score it on others with --text FILE"),
        (["sample", "best"], "none of the 1 runs here was trained on running text"),
        (
            ["compare", "RUN", "trained"],
            "runs were trained on bases of a genome and some on running text",
        ),
    ],
)
def test_what_a_new_kind_is_not_for_is_refused(
    genome: Path, typed: Typed, trained: Path, verses: Path, words: list[str], why: str
) -> None:
    run = "runs/bases"
    assert typed("train", genome, *SMALL, "--steps", "2", "--out", run, "--quiet")[0] == 0
    names = {"TEXT": str(verses), "GENOME": str(genome), "RUN": run, "trained": str(trained)}
    code, _, said = typed(*(names.get(word, word) for word in words))
    assert code == 2
    assert why in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("genome")
def test_the_help_page_has_its_settings(typed: Typed) -> None:
    assert "--backwards" in typed("train", "--help")[1]


@pytest.mark.parametrize("kind", kinds.names())
def test_a_kind_names_settings_that_there_are(kind: str) -> None:
    data = kinds.load(kind)
    known = {field.name for group in (TrainSettings, data.Settings) for field in fields_of(group)}
    assert {*data.own, *data.batches} <= known
    assert data.name() == kind


@pytest.mark.parametrize(("own", "kind"), [("text", "pairs"), ("pairs", "text")])
def test_a_setting_of_another_kind_is_refused_with_those_that_there_are(own: str, kind: str) -> None:
    owner, data = kinds.load(own), kinds.load(kind)
    for name in owner.own:
        with pytest.raises(SettingsError) as refused:
            Plan.of({"arch": "seq2seq", name: 2}, kind=kind)
        assert refused.value.field == name
        assert str(refused.value).startswith(f"--{name.replace('_', '-')} is for {owner.noun}")
        assert all(f"--{other.replace('_', '-')}" in str(refused.value) for other in data.own)


def scored(path: Path, score: Score) -> folder.RunInfo:
    return folder.RunInfo(path, {}, {"best": score.to_json()})


def test_the_best_run_is_the_best_in_the_measure_of_the_newest_that_has_a_score() -> None:
    right = Measure("accuracy", "right", more=True)
    runs = [scored(Path(f"bits-{bits}"), Score(bits, 1.0, 1, 1, 1, 1)) for bits in (2.0, 1.0, 3.0)]
    runs += [scored(Path(f"right-{share}"), Score(share, 1.0, 1, 1, 1, 1, right)) for share in (0.1, 0.4, 0.3)]
    runs.append(folder.RunInfo(Path("new"), {}, {}))
    best = [folder.best_of(runs[:end]) for end in (0, 3, 7)]
    assert [info and info.path.name for info in best] == [None, "bits-1.0", "right-0.4"]


def test_where_more_is_better_the_larger_score_comes_first_and_a_target_is_reached_from_below() -> None:
    right = Measure("accuracy", "right", more=True)
    curve = [Point(float(step), step, step, 0.1 * step) for step in range(1, 6)]
    rows = [
        Row(name, [Trained(Path(name), 0, Score(share, 1.0, 1, 1, 1, 1, right), 1, 1, 1.0, None, 1, 1.0, curve)], [])
        for name, share in (("worse", 0.25), ("better", 0.5))
    ]
    assert verdict(rows).startswith("better reaches 0.250 right more than worse")
    assert rows[0].reached(0.3) == 3.0
    made = Comparison({}, {"name": "t", "validation_bytes": 1, "characters": 1}, rows, measure=right)
    titles, lines = cells.lines(made)
    assert titles[:2] == ["model", "right"]
    assert [line.cells[0] for line in lines] == ["better", "worse"]
    assert cells.marked(lines[0])[1] == "0.5000*"
    assert cells.as_csv(made).startswith("model,run,seed,accuracy,")


def test_nothing_outside_the_kinds_tells_them_apart_by_class() -> None:
    files = [path for path in ROOT.rglob("*.py") if path.parent.name != "kinds"]
    assert [path for path in files if re.search(r"isinstance\([^)]*Pair", path.read_text(encoding="utf-8"))] == []
