"""Encoder-decoders learn the same pairs, and translate the same ones that none of them saw."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from texts import backwards

from charlm.cli.comparison import print_comparison
from charlm.comparing import cells
from charlm.comparing.contest import TOLERANCE, Contest, size
from charlm.comparing.rows import Row, examples
from charlm.comparing.run import Comparison, train_and_compare
from charlm.config import flag
from charlm.errors import SettingsError
from charlm.plan import merge
from charlm.progress import result
from charlm.runs import folder
from charlm.scoring import score_run
from charlm.text.pairs import Pair, PairCorpus

Typed = Callable[..., tuple[int, str, str]]
COMMON = {
    "tokenizer": "char",
    "epochs": 8.0,
    "batch_tokens": 256,
    "val_frac": 0.2,
    "lr": 1e-2,
    "eval_every": "20",
    "precision": "fp32",
}
ATTENTION = "seq2seq:attention=additive:hidden_size=32"
NONE = "seq2seq:attention=none:cell=gru:hidden_size=32"
WORDS = "encdec:hidden_size=16:layers=1:tokenizer=word"  # each source is one token, and each target too


def contest(labels: Sequence[str], match: Any = "tokens", seeds: int = 1, **common: Any) -> Contest:
    return Contest.of(labels, match, seeds, merge(COMMON, common), kind="pairs")


def held_out(file: Path) -> list[Pair]:
    """The last fifth, without the twentieth that is kept to be tested on."""
    pairs = [Pair(*line.split("\t")) for line in file.read_text().splitlines()]
    return pairs[-round(0.2 * len(pairs)) - round(0.05 * len(pairs)) : -round(0.05 * len(pairs))]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return backwards(tmp_path / "words.tsv")


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three kinds of model, trained for a moment. To be read, not changed."""
    made = tmp_path_factory.mktemp("translated")
    corpus = PairCorpus.open([backwards(made / "words.tsv")])
    comparison = result(train_and_compare(contest([ATTENTION, NONE, WORDS]), corpus, out=made / "made"))
    assert [len(row.trained) for row in comparison.rows] == [1, 1, 1]
    return comparison


def runs(made: Comparison) -> list[Path]:
    return [each.run for row in made.rows for each in row.trained]


def test_all_translate_the_same_pairs_which_none_of_them_saw(translated: Comparison) -> None:
    pairs = held_out(translated.rows[0].trained[0].run.parents[1] / "words.tsv")
    assert translated.text["pairs"] == len(pairs)
    assert translated.text["validation_bytes"] == sum(len(pair.target) + 1 for pair in pairs)
    for row in translated.rows:
        (each,) = row.trained
        assert [Pair(*pair) for pair in zip(each.trial.sources, each.trial.targets, strict=True)] == pairs
        assert each.score.bytes == translated.text["validation_bytes"]


def test_the_table_says_what_eval_says(translated: Comparison) -> None:
    for row in translated.rows:
        said = result(score_run(row.trained[0].run)).to_json()
        assert row.scores == [pytest.approx(said["bits_per_byte"], abs=1e-6)]
        assert (row.value("exact"), row.value("chrf")) == (said["exact"], said["chrf"])


def test_equal_epochs_are_equal_tokens_of_the_targets(translated: Comparison) -> None:
    attention, none, _ = (row.trained[0] for row in translated.rows)
    assert attention.tokens_seen == none.tokens_seen == folder.info(none.run).training["tokens"]
    assert attention.curve[-1].tokens == attention.tokens_seen
    assert [point.step for point in attention.curve] == [point.step for point in none.curve]


def test_sources_are_equally_long_for_all_however_they_are_spelled(translated: Comparison) -> None:
    bands = [[band[:3] for band in row.bands] for row in translated.rows]
    assert [length for length, _, _ in bands[0]] == [1, 2, 3, 4]
    assert bands[1:] == bands[:1] * 2


def test_the_columns_are_those_of_translations(translated: Comparison) -> None:
    titles, lines = cells.lines(translated)
    assert titles[:5] == [
        "model",
        "bits/byte",
        "% exact",
        "chrF",
        "parameters",
    ]  # BLEU counts words, of which there is one
    assert "translates char/s, in batches" in titles
    assert "beats 6-gram" not in titles
    assert [line.cells[0] for line in lines] == sorted((row.label for row in translated.rows), key=bits_of(translated))
    (first, *_) = csv.DictReader(io.StringIO(cells.as_csv(translated)))
    assert float(first["exact"]) == translated.rows[0].value("exact")


def bits_of(made: Comparison) -> Callable[[str], float]:
    return {row.label: row.scores[0] for row in made.rows}.__getitem__


def test_json_holds_what_was_exactly_right_by_the_length_of_the_source(translated: Comparison) -> None:
    told = json.loads(json.dumps(translated.to_dict()))
    for row in told["rows"]:
        (run,) = row["runs"]
        right = sum(band["pairs"] * band["exact"] for band in run["by_source_length"])
        assert row["exact"] == run["exact"] == pytest.approx(right / run["pairs"])
        assert row["write_speed"] > 0
    assert told["baselines"] is None
    assert [set(example["written"]) for example in told["examples"]] == [{ATTENTION, NONE, WORDS}] * 6


def test_the_page_shows_quality_by_length_translations_and_where_attention_looks(translated: Comparison) -> None:
    pytest.importorskip("vl_convert")
    from markupsafe import escape

    from charlm.comparing import report

    page = report.page(translated)
    assert 'data-spec="spec-length-1"' in page
    assert '"title": "percent exactly right"' in page
    for example in examples(translated.rows):
        assert f"<h3>{example.source}</h3>" in page
        assert all(f">{escape(text)}</dd>" in page for text in (example.target, *example.written.values()))
    assert page.count('data-spec="spec-map-') == 2  # one has no attention
    assert "Where each one is surprised" not in page


def test_equal_parameters_are_equal_within_two_percent(words: Path) -> None:
    asked = contest(["encdec:hidden_size=32", "seq2seq", "seq2seq:attention=none:cell=gru"], "params")
    stores = result(asked.stores(PairCorpus.open([words]), None))
    first, *others = [size(plan, stores[label], "params") for label, (plan,) in asked.plans(stores).items()]
    assert all(abs(other - first) <= TOLERANCE * first for other in others)


@pytest.mark.parametrize(
    ("labels", "common", "message"),
    [
        (["seq2seq", "lstm"], {}, "lstm reads no pairs of source and target; choose from encdec, seq2seq"),
        (["seq2seq:batch_tokens=9"], {}, "--batch-tokens must be the same for all"),
        (["seq2seq", "encdec:max_length=9"], {}, "--max-length must be the same for all"),
        (["seq2seq"], {"seq_len": 9}, "--seq-len is for running text"),
        (["seq2seq", WORDS], {"max_length": 3}, "--max-length leaves out other pairs in one tokenizer's tokens"),
        (["seq2seq", WORDS], {"steps": 9}, "--steps are of different sizes here; give --epochs"),
    ],
)
def test_what_is_no_fair_contest_is_refused(
    words: Path, labels: list[str], common: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        result(contest(labels, **common).stores(PairCorpus.open([words]), None))


def test_the_table_is_of_translations_and_the_same_command_goes_on(typed: Typed, translated: Comparison) -> None:
    made = runs(translated)[0].parent
    settings = [word for name, value in COMMON.items() for word in (flag(name), value)]
    asked = ["compare", made.parent / "words.tsv", "--arch", ",".join([ATTENTION, NONE, WORDS]), *settings]
    code, out, error = typed(*asked, "--out", made, "--target-bits", "99")
    assert code == 0, error
    assert "0 trainings to do; 3 done before" in error
    for said in ("68 pairs to be translated", "% exact", "s to 99", "percent exactly right", "one seed proves little"):
        assert said in out
    assert f"next: charlm translate {made}/" in out.splitlines()[-1]


def test_an_entrant_that_fails_is_a_row_that_says_why(
    translated: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row("encdec:layers=64", [], ["parameters and logits need at least 9 GB"]), translated.rows[0]]
    print_comparison(replace(translated, rows=rows), "time", json=False, csv=False, markdown=False)
    out = capsys.readouterr().out
    assert re.search("encdec:layers=64 .*parameters and logits need at least 9 GB", out)
    assert "percent exactly right" in out


def test_a_file_named_as_pairs_is_never_read_as_a_running_text(typed: Typed, words: Path) -> None:
    assert "lstm reads no pairs" in typed("compare", words, "--arch", "lstm,gru")[2]


def test_runs_are_compared_on_the_pairs_that_they_hold_out(typed: Typed, translated: Comparison) -> None:
    code, out, error = typed("compare", *runs(translated), "--json")
    assert code == 0, error
    told = json.loads(out)
    assert told["text"]["pairs"] == translated.text["pairs"]
    assert [row["exact"] for row in told["rows"]] == [row.value("exact") for row in translated.rows]


def test_runs_are_compared_on_other_pairs(typed: Typed, translated: Comparison) -> None:
    Path("other.tsv").write_text("abc\tcba\nno pair\nd\td\n")
    code, out, error = typed("compare", *runs(translated), "--pairs", "other.tsv", "--json")
    assert code == 0, error
    assert "line 2 (has no tab)" in error
    assert json.loads(out)["text"]["pairs"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["PAIRS", "TEXT"],
            "some of these runs were trained on pairs of source and target and some on running text",
        ),
        (
            ["PAIRS", "--text", "some.txt"],
            "trained on pairs of source and target; score it on others with --pairs FILE",
        ),
        (["TEXT", "--pairs", "some.txt"], "trained on running text; score it on others with --text FILE"),
        (["PAIRS", "--pairs", "a.tsv", "--text", "some.txt"], "different texts; give one of them"),
        ([], "what is to be compared? charlm compare FILE"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    typed: Typed, translated: Comparison, trained: Path, words: list[str], message: str
) -> None:
    Path("some.txt").write_text("a\tb\n")
    places = {"PAIRS": str(runs(translated)[0]), "TEXT": str(trained)}
    code, out, error = typed("compare", *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
