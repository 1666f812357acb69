"""What is held equal, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlm.comparing.contest import Contest
from charlm.comparing.entrants import labels
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.model import parameter_count
from charlm.plan import Plan
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.text.windows import Windows
from charlm.work import multiply_adds


def plans(
    labels: Sequence[str], text: Path, match: Any = "time", seeds: int = 1, **common: Any
) -> dict[str, list[Plan]]:
    contest = Contest.of(labels, match, seeds, common)
    return contest.plans(result(contest.stores(Corpus.open([text]), None)))


def test_each_entrant_may_have_settings_of_its_own(verses: Path) -> None:
    made = plans(["lstm", "lstm:hidden_size=48:tied=on", "transformer:lr=1e-3:tokenizer=byte"], verses, minutes=1.0)
    assert [plan.arch for (plan,) in made.values()] == ["lstm", "lstm", "transformer"]
    assert made["lstm:hidden_size=48:tied=on"][0].model.to_dict()["tied"] is True
    byte = made["transformer:lr=1e-3:tokenizer=byte"][0]
    assert (byte.train.lr, byte.data.tokenizer, byte.train.minutes) == (1e-3, "byte", 1.0)


def test_a_preset_enters_without_what_must_be_the_same_for_all(verses: Path) -> None:
    made = plans(["gpt2-tiny", "nanogpt-char-cpu", "nanogpt-char-cpu:hidden_size=64"], verses, minutes=1.0)
    trains = [plan.train for (plan,) in made.values()]
    assert {plan.model.to_dict()["activation"] for (plan,) in made.values()} == {"gelu"}
    assert {(s.minutes, s.steps, s.order, s.batch_size) for s in trains} == {(1.0, None, "stream", 16)}
    assert [plan.model.to_dict()["hidden_size"] for (plan,) in made.values()] == [128, 128, 64]
    with pytest.raises(SettingsError, match="preset small is for any architecture; name one"):
        plans(["small", "lstm"], verses)


def test_the_hidden_size_of_a_preset_may_be_matched_and_one_after_a_colon_may_not(verses: Path) -> None:
    made = plans(["gpt2-tiny", "switch-tiny"], verses, "work", minutes=1.0)
    sizes = [plan.model.to_dict()["hidden_size"] for (plan,) in made.values()]
    assert sizes[0] == 128 > sizes[1]
    with pytest.raises(SettingsError, match="comes no closer"):
        plans(["gpt2-tiny", "switch-tiny:hidden_size=128"], verses, "work", minutes=1.0)


def test_the_family_is_every_small_preset_that_guesses_each_next_token(verses: Path) -> None:
    first, *family = labels("lstm, family")
    assert first == "lstm"
    assert "gpt2-tiny" in family
    made = plans(family, verses, minutes=1.0)
    sizes = {(plan.model.to_dict()["layers"], plan.model.to_dict()["hidden_size"]) for (plan,) in made.values()}
    assert sizes == {(4, 128)}, "so that they compare"


def test_all_read_the_same_text_in_the_same_order(verses: Path) -> None:
    """Row r of everyone's batch stands at the same place after the same number of tokens, whatever the window."""
    made = plans(["lstm", "seq2seq", "transformer"], verses, seeds=2)
    assert len({plan.train.batch_size for each in made.values() for plan in each}) == 1
    assert len({plan.train.order for each in made.values() for plan in each}) == 1
    ids = np.arange(20_000, dtype=np.uint16)
    for seed in range(2):
        texts = []
        for each in made.values():
            s = each[seed].train
            assert s.seed == seed
            w = Windows(ids, batch_size=s.batch_size, seq_len=s.seq_len, order=s.order, seed=s.seed)
            batches = [w.batch(i)[0][0][:, :-1] for i in range(1024 // s.seq_len)]
            texts.append(np.concatenate(batches, 1))
        assert all((text == texts[0]).all() for text in texts)


def test_windows_that_do_not_fit_a_short_text_leave_fewer_rows_for_all(verses: Path) -> None:
    made = plans(["lstm:seq_len=16", "lstm:seq_len=1000"], verses, "tokens", epochs=1.0)
    stores = result(Contest.of(list(made), "tokens", 1, {"epochs": 1.0}).stores(Corpus.open([verses]), None))
    batches = [stores[label].batches(plan.train) for label, (plan,) in made.items()]
    assert batches[0].batch_size == batches[1].batch_size < 16
    assert [each.seq_len for each in batches] == [16, 1000]


@pytest.mark.parametrize("order", [["lstm", "transformer", "seq2seq", "gru"], ["transformer", "lstmcell", "rnn"]])
def test_equal_parameters_are_equal_within_two_percent(verses: Path, order: list[str]) -> None:
    made = plans(order, verses, "params", minutes=1.0)
    sizes = [parameter_count(p.outline(DataSpec(40, Lengths.of_text(p.train.seq_len)))) for (p,) in made.values()]
    assert max(sizes) / min(sizes) < 1.05  # the text has another number of characters than 40
    assert made[order[0]][0].model == Plan.of({"arch": order[0]}).model  # the first one sets the size


def test_equal_work_is_equal_within_two_percent_and_experts_cost_next_to_none(verses: Path) -> None:
    made = plans(["transformer", "transformer:experts=8:capacity_factor=1.0", "lstm"], verses, "work", minutes=1.0)
    outlines = [p.outline(DataSpec(40, Lengths.of_text(p.train.seq_len))) for (p,) in made.values()]
    work, sizes = [multiply_adds(o) for o in outlines], [parameter_count(o) for o in outlines]
    assert max(work) / min(work) < 1.05
    assert sizes[1] > 2 * sizes[0]


def test_a_size_that_was_given_stays_and_is_refused_if_it_does_not_fit(verses: Path) -> None:
    with pytest.raises(SettingsError, match=r"--match params: gru comes no closer to .* parameters than"):
        plans(["lstm", "gru:hidden_size=8"], verses, "params")


@pytest.mark.parametrize(
    ("labels", "match", "common", "message"),
    [
        (["lstm", "lstm"], "time", {}, "names something twice"),
        (["lstm:hidden_size"], "time", {}, "after a colon comes setting=value"),
        (["lstm:ngram=2"], "time", {}, "--ngram belongs to transformer"),
        (["lstm:steps=5"], "time", {}, "--steps must be the same for all"),
        (["lstm", "gru:val_frac=0.3"], "time", {}, "--val-frac must be the same for all"),
        (["lstm", "gru:batch_size=3"], "time", {}, "--batch-size must be the same for all"),
        (["lstm", "seq2seq"], "tokens", {"steps": 9}, "--steps are of different sizes here; give --epochs"),
        (["lstm:accumulate=2:seq_len=32", "lstm"], "tokens", {"steps": 9}, "--steps are of different sizes here"),
        (["lstn"], "time", {}, "did you mean lstm"),
        (["lstm:hidden_size=big"], "time", {}, "--hidden-size must be a whole number, got 'big'"),
        (["lstm"], "tokens", {"minutes": 1.0}, "--match tokens lets all read the same text"),
        (["lstm"], "time", {"epochs": 1.0}, "add --match tokens"),
    ],
)
def test_what_is_no_fair_contest_is_refused(
    verses: Path, labels: list[str], match: str, common: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        plans(labels, verses, match, **common)
