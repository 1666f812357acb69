"""A comparison is fair, goes on where it was interrupted, and survives what fails."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from small_runs import LANGUAGE_MODELS
from texts import VERSES

from charlm import job
from charlm.comparing import cells
from charlm.comparing.contest import Contest
from charlm.comparing.rows import SEED_NOISE, Row, Trained, half_width, student, verdict, welch
from charlm.comparing.run import Comparison, Planned, train_and_compare
from charlm.comparing.worker import TrainingEnded
from charlm.config import DataSpec, Lengths
from charlm.evaluate import evaluate
from charlm.events import Ended
from charlm.plan import Plan
from charlm.progress import result
from charlm.score import Score
from charlm.scoring import score_run
from charlm.text.corpus import Corpus
from charlm.text.tokenizers import utf8
from charlm.text.vocabulary import train_tokenizer

Typed = Callable[..., tuple[int, str, str]]


def test_all_were_scored_on_the_same_bytes_after_the_same_tokens(compared: Comparison) -> None:
    trained = [each for row in compared.rows for each in row.trained]
    assert len(trained) == 4
    assert {each.score.bytes for each in trained} == {compared.text["validation_bytes"]}
    assert len({each.tokens_seen for each in trained}) == 1
    for each in trained:
        score = result(score_run(each.run)).score
        assert each.score.value == pytest.approx(score["bits_per_byte"], abs=1e-5)
        assert each.params == score["params"]
        assert each.train_speed > 0
        assert each.trial.speed > 0
        assert each.peak_memory is None or each.peak_memory > 50e6


def test_seeds_differ_and_their_interval_is_students(compared: Comparison) -> None:
    row = compared.rows[0]
    a, b = row.scores
    assert a != b
    assert row.interval == pytest.approx(
        12.706 * abs(a - b) / 2
    )  # t for one degree of freedom, s / sqrt(2) = |a - b| / 2


def test_what_fails_is_a_row_that_says_why(compared: Comparison) -> None:
    failed = compared.rows[2]
    assert failed.trained == []
    assert "parameters and logits need at least" in failed.failures[0]
    titles, lines = cells.lines(compared)
    assert lines[-1].cells == [failed.label]
    assert "try a smaller --hidden-size" in lines[-1].note
    assert len(lines[0].cells) == len(titles)


def test_the_target_is_reached_at_the_first_validation_that_is_as_good(compared: Comparison) -> None:
    each = compared.rows[0].trained[0]
    assert [point.step for point in each.curve][-2:] == [20, 40]
    assert each.reached(each.curve[-1].value) == each.curve[-1].seconds
    assert each.reached(0.01) is None


LABELS, COMMON = ["lstm:hidden_size=8", "rnn"], {"steps": 3, "seq_len": 8, "batch_size": 4}


class Interrupted(NamedTuple):
    """A comparison that was interrupted after its first training, begun again, and begun again when it was finished."""

    place: Path
    begun: list[set[Path]]  # what was done before, each time
    returned: list[list[str]]  # why the trainings of each time failed, if they did
    unchanged: bool  # what had been trained the first time


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    place, contest = tmp_path_factory.mktemp("interrupted"), Contest.of(LABELS, "params", 1, COMMON)
    begun: list[set[Path]] = []
    returned: list[list[str]] = []
    (place / "verses.txt").write_text(VERSES, encoding="utf-8")

    def compare(stop: bool = False) -> None:
        work, failures = train_and_compare(contest, Corpus.open([place / "verses.txt"]), cache_dir=place), []
        for event in work:
            if isinstance(event, Planned):
                begun.append(event.done)
            elif isinstance(event, TrainingEnded):
                failures.append(event.failure)
                if stop:
                    break
        work.close()
        returned.append(failures)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        compare(stop=True)
        first = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("model.safetensors")}
        compare()
        compare()
        unchanged = len(first) == 1 and all(path.stat().st_mtime_ns == time for path, time in first.items())
    return Interrupted(place, begun, returned, unchanged)


def test_an_interrupted_comparison_goes_on_and_a_finished_one_is_only_shown(interrupted: Interrupted) -> None:
    first, second, third = interrupted.begun
    assert first == set()
    assert {path.parent for path in second | third} == {Path("runs/verses-compare")}
    assert (len(second), len(third)) == (1, 2)
    assert interrupted.returned == [[""], [""], []]
    assert interrupted.unchanged


def results(*bits: float) -> list[Trained]:
    return [
        Trained(
            Path("r"),
            seed,
            Score(b, b, 1, 1, 1, 1),
            params=1,
            multiply_adds=1,
            train_speed=1.0,
            peak_memory=None,
            tokens_seen=1,
            seconds=1.0,
        )
        for seed, b in enumerate(bits)
    ]


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([2.00, 2.01, 1.99], [2.50, 2.51, 2.49], "more than the seeds explain"),
        ([2.00, 2.30, 1.90], [2.10, 2.05, 2.20], "no winner between these two"),
        ([2.00], [2.00 + 2 * SEED_NOISE], "one seed proves little: try --seeds 3"),
        ([2.00], [2.00 + SEED_NOISE / 2], "no more than another seed may change"),
    ],
)
def test_the_verdict_says_what_a_difference_means_given_the_seeds(a: list[float], b: list[float], words: str) -> None:
    said = verdict([Row("a", results(*a), []), Row("b", results(*b), [])])
    assert words in said
    assert said.startswith("a needs ")


def test_intervals_agree_with_tabled_values() -> None:
    """Student 1908's own example of sleep (differences of ten patients), and a Welch interval worked by hand."""
    sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert half_width(sleep) == pytest.approx(0.880, abs=1e-3)  # 1.58 ± 0.88
    assert student(4) == 2.776
    assert welch([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(4.303 * math.sqrt(1 / 3 + 4 / 3))  # 2.9 degrees


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_a_model_whose_answer_is_known_gets_it_with_every_tokenizer(tokenizer: str) -> None:
    """With zero weights every token is equally likely: log2 V bits each, whatever the tokens are."""
    text = "".join(f"line {n} of some text, ünd mörè of it\n" for n in range(200))
    plan = Plan.of({"arch": "lstm", "hidden_size": 8, "tokenizer": tokenizer, "vocab_size": 300})
    made = result(train_tokenizer(plan.data, lambda: iter([text])))
    model = plan.build(DataSpec(made.vocab_size, Lengths.of_text(16))).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    ids = made.encode(text)
    score = result(evaluate(model, ids, np.array([made.start]), chars=len(text), bytes=len(utf8(text))))
    assert score.value == pytest.approx(len(ids) * math.log2(made.vocab_size) / len(utf8(text)), rel=1e-5)


def markov(length: int, seed: int) -> tuple[str, np.ndarray]:
    """A text of a source whose next letter depends on the last one alone, and its transition probabilities."""
    rng = np.random.default_rng(seed)
    table = np.array([[0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.85, 0.05], [0.25, 0.25, 0.25, 0.25], [0.5, 0.3, 0.1, 0.1]])
    state, letters = 0, []
    draws = rng.random(length)
    for draw in draws:
        state = int((draw > table[state].cumsum()).sum())
        letters.append("abcd"[state])
    return "".join(letters), table


@pytest.mark.parametrize("arch", LANGUAGE_MODELS)
def test_no_architecture_beats_the_entropy_of_its_source_and_all_come_near(arch: str, tmp_path: Path) -> None:
    text, table = markov(60_000, seed=1)
    (tmp_path / "markov.txt").write_text(text)
    held = round(0.2 * len(text))
    states = ["abcd".index(c) for c in text[-held - 1 :]]
    least = -np.mean([math.log2(table[a, b]) for a, b in itertools.pairwise(states)])  # of the true source
    sizes = {
        "hidden_size": 32,
        "dropout": 0.0,
        "batch_size": 16,
        "seq_len": 32,
        "eval_every": "10000",
        "precision": "fp32",
    }
    data = {"val_frac": 0.2, "test_frac": 0.0}
    steps = {"lstmcell": 120}.get(arch, 250)
    plan = Plan.of({"arch": arch, **sizes, **data, "steps": steps})
    *_, ended = job.train(plan, Corpus.open([tmp_path / "markov.txt"]), out=Path("run"))
    assert isinstance(ended, Ended)
    assert ended.best is not None
    assert ended.best.bits_per_byte > least - 0.002  # what it may have learnt of the very text by chance
    assert ended.best.bits_per_byte < 1.02 * least


def test_the_command_prints_a_table_and_every_other_form(
    typed: Typed, interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(interrupted.place)
    tiny = ["--steps", "3", "--seq-len", "8", "--batch-size", "4"]
    words = ["compare", "verses.txt", "--arch", ",".join(LABELS), "--match", "params", *tiny]
    code, out, error = typed(*words)
    assert code == 0, error
    assert "0 trainings to do; 2 done before" in error
    assert "hidden sizes: lstm:hidden_size=8 8, rnn " in error
    for said in ("bits/byte", "6-gram", "xz -9e", "uniform", "one seed proves little", "next: charlm sample runs/"):
        assert said in out
    told = json.loads(typed(*words, "--json")[1])
    assert [row["model"] for row in told["rows"]] == LABELS
    assert max(row["params"] for row in told["rows"]) / min(row["params"] for row in told["rows"]) < 1.02
    assert told["rows"][0]["beats_6gram"] is False
    rows = list(csv.DictReader(io.StringIO(typed(*words, "--csv")[1])))
    assert float(rows[0]["bits_per_byte"]) == told["rows"][0]["bits_per_byte"]
    assert [row["model"] for row in rows[-4:]] == ["uniform", "unigram", "ngram6", "xz"]
    shown = typed(*words, "--markdown")[1].strip().split("\n")
    assert {line.count("|") for line in shown} == {shown[0].count("|")}
    for along in ("tokens", "steps"):
        assert typed(*words, "--along", along)[0] == 0
    assert "2 of the comparison verses-compare, to be named like verses-compare/lstm-" in typed("runs")[1]
    assert "(did you mean 'verses-compare/rnn-0'?)" in typed("info", "rnn")[2]
    assert "those of comparisons; name one, such as verses-compare/lstm-" in typed("sample")[2]
    assert typed("sample", "verses-compare/rnn-0", "--length", "1")[0] == 0


def test_runs_that_are_there_are_compared_as_they_are(typed: Typed, verses: Path, trained: Path) -> None:
    assert typed("train", verses, "--arch", "rnn", "--steps", "5", "--hidden-size", "8", "--quiet")[0] == 0
    code, out, error = typed("compare", trained, "verses-rnn", "--json", "--target-bits", "3")
    assert code == 0, error
    told = json.loads(out)
    assert [row["model"] for row in told["rows"]] == ["run", "verses-rnn"]
    assert told["rows"][0]["bits_per_byte"] < told["rows"][1]["bits_per_byte"]
    assert told["baselines"]["ngram6"] > 0


def test_runs_that_hold_out_different_texts_need_one_to_be_compared_on(
    typed: Typed, verses: Path, trained: Path
) -> None:
    other = Path("other.txt")
    other.write_text(verses.read_text()[:3000])
    assert typed("train", other, "--arch", "rnn", "--steps", "5", "--hidden-size", "8", "--quiet")[0] == 0
    code, _, error = typed("compare", trained, "other-rnn")
    assert code == 2
    assert "hold out different texts" in error
    code, out, _ = typed("compare", trained, "other-rnn", "--text", other, "--json")
    assert code == 0
    assert {run["bytes"] for row in json.loads(out)["rows"] for run in row["runs"]} == {3000}


def test_what_reads_another_text_out_of_the_same_file_is_not_compared(typed: Typed, tmp_path: Path) -> None:
    """Neither runs, nor what would be trained; where nothing is to be simplified the text is the same."""
    tiny = ["--arch", "rnn", "--hidden-size", "8", "--steps", "2", "--quiet"]
    for text, code in (("so on… naïve cafés\n", 2), ("so on... plain words\n", 0)):
        (tmp_path / "text.txt").write_text(60 * text, encoding="utf-8")
        for alphabet in ("corpus", "printable"):
            made = typed("train", "text.txt", *tiny, "--out", f"{alphabet}{code}", "--alphabet", alphabet)
            assert made[0] == 0
        said = typed("compare", f"corpus{code}", f"printable{code}")
        assert said[0] == code
        assert ("different texts out of the same file" in said[2]) == bool(code)
    both = ["--arch", "rnn,rnn:tokenizer=byte", "--steps", "2", "--alphabet", "printable"]
    code, _, error = typed("compare", "text.txt", *both)
    assert (code, "--alphabet printable is for --tokenizer char" in error) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "--minutes", "1"], "these are runs"),
        (["RUN", "--arch", "lstm"], "these are runs"),
        (["RUN", "nothing"], "no run 'nothing'"),
        (["RUN", "--json", "--csv"], "give one of them"),
        (["RUN", "RUN"], "the same run twice"),
        (["nothing.txt"], "nothing.txt"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    typed: Typed, trained: Path, words: list[str], message: str
) -> None:
    code, out, error = typed("compare", *(str(trained) if word == "RUN" else word for word in words))
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
