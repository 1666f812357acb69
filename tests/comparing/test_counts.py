"""What pretraining is worth: models from runs and from nothing, by the number of labelled texts they learn from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_runs import labelled_words, train_on_verses

from charlm import kinds
from charlm.comparing.contest import Contest, Stores
from charlm.comparing.counts import by_line, caption, counts, verdicts
from charlm.comparing.entrants import entrants
from charlm.comparing.rows import NO_TRIAL, Row, Trained, half_width
from charlm.errors import SettingsError
from charlm.kinds._base import Trial
from charlm.objectives.classify import ACCURACY
from charlm.plan import Plan
from charlm.progress import result
from charlm.score import Score

Typed = Callable[..., tuple[int, str, str]]
SMALL = {"steps": 4, "val_frac": 0.1, "test_frac": 0.3}
OPTIONS = ("--steps", "4", "--val-frac", "0.1", "--test-frac", "0.3")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "words.tsv"
    path.write_text(labelled_words(120), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has room for 30 tokens."""
    folder = tmp_path_factory.mktemp("transformer")
    train_on_verses(folder, arch="transformer", steps=1, hidden_size=16, layers=1, seq_len=30)
    return folder / "run"


def contest(file: Path, starts: Sequence[object], numbers: Sequence[str] = (), **more: Any) -> tuple[Contest, Stores]:
    names = more.pop("names", [])
    made = Contest.of(
        names, "tokens", 1, {**SMALL, **more}, kind="labels", starts=[str(start) for start in starts], counts=numbers
    )
    return made, result(made.stores(kinds.load("labels").open([file], (), "utf-8"), None))


def test_entrants_are_the_runs_and_nothing_crossed_with_the_numbers_of_labels(trained: Path, transformer: Path) -> None:
    (link := transformer.parent / "other").symlink_to(transformer)
    made = entrants([], [str(trained), str(link), "none"], ["50", "all"])
    assert [entrant.label for entrant in made] == [
        f"{arch} {start}, {number} labels"
        for arch, begins in (("lstm", ("from run", "from nothing")), ("transformer", ("from other", "from nothing")))
        for start in begins
        for number in (50, "all")
    ]
    assert [entrant.origin is None for entrant in made] == [False, False, True, True] * 2
    assert [entrant.settings["label_count"] for entrant in made] == [50, None] * 4


def test_runs_of_one_name_are_called_by_what_was_typed(trained: Path, transformer: Path) -> None:
    made = entrants([], [str(trained), str(transformer)])
    assert [entrant.label for entrant in made] == [f"lstm from {trained}", f"transformer from {transformer}"]


def test_from_nothing_is_the_network_of_the_run_at_the_rate_of_its_recipe(labelled: Path, trained: Path) -> None:
    """So what differs is what the weights know, not how many there are; a run's weights are to change gently."""
    made, stores = contest(labelled, [trained, "none"])
    (warm,), (cold,) = made.plans(stores).values()
    assert warm.model == cold.model
    assert warm.model.to_dict()["hidden_size"] == 48
    assert cold.train.lr == Plan.of({"arch": "lstm"}, kind="labels").train.lr
    assert warm.train.lr == 1e-2 / 4
    assert (warm.train.steps, warm.objective) == (cold.train.steps, cold.objective)


def test_networks_of_two_sizes_start_from_nothing_in_both_sizes(trained: Path, tmp_path: Path) -> None:
    train_on_verses(tmp_path, hidden_size=8, steps=1)
    made = entrants(["lstm"], [str(trained), str(tmp_path / "run"), "none"])
    assert [entrant.like and entrant.like.plan.model.to_dict()["hidden_size"] for entrant in made] == [48, 8, 48, 8]
    assert len({entrant.label for entrant in made}) == 4


def test_all_are_scored_on_the_same_texts_and_the_fewer_labels_are_among_the_more(
    labelled: Path, trained: Path
) -> None:
    made, stores = contest(labelled, [trained, "none"], ["9", "30", "all"])
    assert len({store.test.numbers.tobytes() for store in stores.values()}) == 1
    assert len({store.validation.numbers.tobytes() for store in stores.values()}) == 1
    learnt = [{*stores[entrant.label].train.numbers.tolist()} for entrant in made.entrants]
    assert learnt[:3] == learnt[3:], "from a run and from nothing the same"
    assert learnt[0] < learnt[1] < learnt[2]
    held_out = {*stores[made.entrants[0].label].test.numbers.tolist()}
    assert not held_out & learnt[2]
    assert [len(own) for own in learnt[:3]] == pytest.approx([9, 30, 72], abs=1)


def test_all_read_texts_as_far_as_the_run_with_the_shortest_window_does(
    labelled: Path, trained: Path, transformer: Path
) -> None:
    made, stores = contest(labelled, [trained, transformer, "none"])
    assert {plan.data.to_dict()["max_length"] for (plan,) in made.plans(stores).values()} == {28}


@pytest.mark.parametrize(
    ("names", "starts", "numbers", "common", "message"),
    [
        (["gru"], ["RUN"], [], {}, "its network is lstm, which is not among --arch gru; add it, or leave --arch out"),
        (["lstm", "gru"], ["RUN"], [], {}, "--init-from names no run of gru; add one, or none"),
        ([], ["RUN", "RUN"], [], {}, "--init-from names something twice"),
        (["lstm"], [], ["5", "5"], {}, "--label-counts names something twice"),
        (["lstm"], [], ["few"], {}, "must be a whole number, got 'few'"),
        (["lstm"], [], ["9", "5000"], {}, "--label-counts 5000: there are 72 labelled texts to learn from"),
        (["lstm"], [], ["9"], {"label_count": 9}, "give one of them"),
        (["lstm:hidden_size=9"], ["RUN"], [], {}, "--hidden-size 9 is not that of"),
        (["lstm"], ["RUN"], [], {"tokenizer": "word"}, "--tokenizer word is not that of"),
    ],
)
def test_what_cannot_start_or_be_counted_is_refused(
    labelled: Path,
    trained: Path,
    names: list[str],
    starts: list[str],
    numbers: list[str],
    common: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(SettingsError, match=message):
        contest(labelled, [trained if start == "RUN" else start for start in starts], numbers, names=names, **common)


def test_a_running_text_has_no_labels_to_be_counted_and_may_be_gone_on_with(
    verses: Path, trained: Path, typed: Typed
) -> None:
    code, _, error = typed("compare", verses, "--arch", "lstm", "--label-counts", "5,50")
    assert (code, error.count("\n")) == (2, 1)
    assert "--label-counts is for labelled texts: a file of texts and labels" in error
    made = Contest.of([], "tokens", 1, {"steps": 3}, starts=[str(trained), "none"])
    warm, cold = made.drafts
    assert (warm.model, warm.train.seq_len, warm.train.lr) == (cold.model, cold.train.seq_len, 1e-2 / 4)


@pytest.mark.slow
def test_one_command_makes_the_table_the_picture_and_the_page(labelled: Path, trained: Path, typed: Typed) -> None:
    begin = ["compare", labelled, "--init-from", f"{trained},none", "--label-counts", "9,60", *OPTIONS]
    code, out, error = typed(*begin, "--json")
    assert code == 0, error
    told = json.loads(out)
    assert told["text"]["part"] == "test"
    assert told["text"]["texts"] == 36
    made = [(row["model"], row["label_count"]) for row in told["rows"]]
    assert made == [
        (f"lstm from {start}, {number} labels", number) for start in ("run", "nothing") for number in (9, 60)
    ]
    each = [run for row in told["rows"] for run in row["runs"]]
    assert [run["label_count"] for run in each] == [9, 60, 9, 60]
    assert [run["start"] for run in each] == [str(trained.resolve())] * 2 + [None] * 2
    said = typed("eval", each[0]["run"], "--split", "test", "--json")[1]
    assert each[0]["accuracy"] == json.loads(said)["accuracy"]

    code, out, error = typed(*begin)
    assert code == 0, error
    assert "0 trainings to do; 4 done before" in error
    assert "36 texts to be classified, of the test part, by which no weights were chosen" in out
    titles = next(line for line in out.splitlines() if "60 labels" in line)
    assert titles.split() == ["accuracy", "9", "labels", "60", "labels"]
    assert sum(line.startswith("lstm from") for line in out.splitlines()) >= 2
    assert "always the commonest class" in out
    assert "labelled texts learnt from" in out, "the picture"

    table = list(csv.DictReader(io.StringIO(typed(*begin, "--csv")[1])))
    assert [(row["start"], row["label_count"]) for row in table] == [
        (start, str(number)) for start in (str(trained.resolve()), "") for number in (9, 60)
    ]
    assert "| lstm from nothing |" in typed(*begin, "--markdown")[1]


def rows_of(**reached: list[list[float]]) -> list[Row]:
    """A row for 10 and one for 100 labelled texts of every model, with the accuracy of every seed."""
    trial = Trial(figures={"low": 0.3, "high": 0.5, "majority": 0.2})
    return [
        Row(f"{line}, {number} labels", [trained_to(value, trial) for value in values], [], line, number)
        for line, both in reached.items()
        for number, values in zip((100, 10), both, strict=True)
    ]


def trained_to(accuracy: float, trial: Trial = NO_TRIAL) -> Trained:
    score = Score(accuracy, 1.0, 36, 100, 100, 9, ACCURACY)
    return Trained(Path("run"), 0, score, 10, None, 1.0, None, 10, 1.0, trial=trial)


def test_a_cell_is_the_mean_over_seeds_with_its_interval_and_models_stand_by_what_they_reach_with_most_labels() -> None:
    rows = rows_of(worse=[[0.5, 0.6, 0.7], [0.4, 0.4, 0.4]], better=[[0.8, 0.9, 1.0], [0.2, 0.3, 0.4]])
    assert counts(rows) == [10, 100]
    assert list(by_line(rows)) == ["better", "worse"]
    few, many = by_line(rows)["better"]
    assert (few.texts, many.texts) == (10, 100)
    assert (many.value, many.half) == (pytest.approx(0.9), half_width([0.8, 0.9, 1.0]))
    assert many.low == pytest.approx(0.9 - many.half)
    assert "worse reaches 0.100 accuracy more than better" in verdicts(rows).splitlines()[0].replace(", 10 labels", "")
    assert "± 0.100" in caption(rows)


def test_with_one_number_of_labels_there_is_no_table_of_several() -> None:
    rows = [row for row in rows_of(one=[[0.5], [0.4]], other=[[0.6], [0.3]]) if row.count == 10]
    assert counts(rows) == []


def test_the_page_has_the_picture_with_the_intervals() -> None:
    pytest.importorskip("vl_convert")
    from charlm.comparing import report

    rows = rows_of(worse=[[0.5, 0.6], [0.4, 0.4]], better=[[0.8, 0.9], [0.2, 0.3]])
    chart = report.by_count(rows, ACCURACY)
    assert chart["encoding"]["x"]["scale"] == {"type": "log"}
    known = {(value["model"], value["texts"]): value for value in chart["data"]["values"]}
    assert known["better", 100]["accuracy"] == pytest.approx(0.85)
    assert known["better", 100]["low"] == pytest.approx(0.85 - half_width([0.8, 0.9]))
    assert known["always the commonest class", 10]["accuracy"] == 0.2
