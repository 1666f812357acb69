"""Runs that restore damaged text: trained, scored, and typed at."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from itertools import chain, product
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from texts import FOX

import charlm
from charlm import job
from charlm.errors import RunError
from charlm.events import Wrote
from charlm.kinds._quality import distance, error_rate
from charlm.objectives._restoring import GAP
from charlm.plan import Plan
from charlm.progress import result
from charlm.runs import folder
from charlm.sampling.restore import cut
from charlm.scoring import score_run
from charlm.text.corpus import Corpus

Typed = Callable[..., tuple[int, str, str]]
Heard = Callable[[str], None]


@pytest.mark.parametrize("run", ["restorer", "filler"])
def test_a_run_restores_better_than_its_damaged_text_is(run: str, request: pytest.FixtureRequest) -> None:
    figures = result(score_run(request.getfixturevalue(run))).to_json()
    assert figures["cer_damaged"] > 0.15
    assert figures["cer"] < (0.4 if run == "restorer" else 0.95) * figures["cer_damaged"]
    assert figures["pieces"] == math.ceil(figures["chars"] / 24) or run == "filler"
    assert "bits_per_byte" not in figures


@pytest.mark.parametrize("run", ["restorer", "filler"])
def test_the_score_is_the_cost_of_each_piece_alone(run: str, request: pytest.FixtureRequest) -> None:
    """Without padding, of what is written and the symbol at its end, per byte of the text in it."""
    path = request.getfixturevalue(run)
    writer = charlm.load(path)
    vocabulary, objective, text = writer.tokenizer.vocab_size, writer.check_can_restore(), FOX * 120
    held_out = writer.tokenizer.encode(text[int(len(text) * 0.85) :][: int(len(text) * 0.1)])
    nats, tokens, written = 0.0, 0, 0
    for piece in chain.from_iterable(objective.held_out(held_out, writer.model.spec)):
        target = torch.tensor([[vocabulary, *piece.target, vocabulary]])
        with torch.no_grad():
            logits = writer.model(target[:, :-1], source=torch.tensor([piece.source])).logits
        nats += float(torch.nn.functional.cross_entropy(logits[0], target[0, 1:], reduction="sum"))
        tokens += target.size(1) - 1
        written += sum(id < vocabulary for id in piece.target)
    score = result(objective.score(writer.model, type("Part", (), {"ids": held_out})))
    assert (score.tokens, score.bytes, score.chars) == (tokens, written, written)
    assert score.nats_per_token == pytest.approx(nats / tokens, rel=1e-4)
    assert score.value == pytest.approx(nats / math.log(2) / written, rel=1e-4)
    assert result(score_run(path)).score[score.measure.name] == pytest.approx(score.value, rel=0.02)


def test_what_is_piped_comes_out_clean(restorer: Path, typed: Typed, heard: Heard) -> None:
    for options in ([], ["-"], ["--beam", "3"]):
        heard("quick b[MASK]wn fox jum\n")
        code, clean, said = typed("restore", restorer, *options)
        assert (code, said, clean[-1]) == (0, "", "\n")
        assert distance(clean, "quick brown fox jum\n") < 5


def test_a_long_text_is_restored_piece_by_piece_and_nothing_is_lost(
    restorer: Path, typed: Typed, tmp_path: Path
) -> None:
    (tmp_path / "long.txt").write_text(FOX * 30)
    code, clean, _ = typed("restore", restorer, tmp_path / "long.txt")
    assert code == 0
    assert distance(clean, FOX * 30) < 0.1 * len(clean)
    said = [json.loads(line) for line in typed("restore", restorer, tmp_path / "long.txt", "--json")[1].splitlines()]
    assert "".join(piece["source"] for piece in said) == (FOX * 30)[:-1]
    assert "".join(piece["text"] for piece in said) + "\n" == clean
    assert len(said) > 40
    assert all(piece["log_probability"] < 0 for piece in said)
    assert sum(piece["finished"] for piece in said) > 0.9 * len(said)
    assert clean == charlm.load(restorer).restore((FOX * 30)[:-1]) + "\n"


def test_a_filler_writes_in_the_gaps_alone(filler: Path, typed: Typed, heard: Heard) -> None:
    heard("the [MASK] brown fox")
    code, text, _ = typed("restore", filler, "--json")
    (piece,) = map(json.loads, text.splitlines())
    assert (code, piece["source"]) == (0, "the [MASK] brown fox")
    assert piece["text"].startswith("the ")
    assert piece["text"].endswith(" brown fox")
    assert len(piece["text"]) > len("the  brown fox")
    heard("the quick brown fox")
    assert typed("restore", filler)[1] == "the quick brown fox\n"


def test_what_is_drawn_depends_on_the_seed(restorer: Path, typed: Typed, heard: Heard) -> None:
    def draw(seed: int) -> str:
        heard("[MASK]")
        return typed("restore", restorer, "--temperature", "2", "--seed", str(seed))[1]

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1


def test_what_has_no_end_is_named(restorer: Path, typed: Typed, heard: Heard) -> None:
    heard("[MASK]" * 6)
    for seed in range(9):
        heard("[MASK]" * 6)
        code, _, said = typed("restore", restorer, "--temperature", "9", "--seed", str(seed))
        assert code == 0
        if said:
            break
    assert "what was written was too long for this run" in said
    assert "piece 1" in said


def test_an_empty_text_is_clean(restorer: Path, typed: Typed, heard: Heard) -> None:
    heard("\n")
    assert typed("restore", restorer)[:2] == (0, "\n")


def test_while_it_trains_it_shows_damaged_pieces_and_what_becomes_of_them(tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text(FOX * 20)
    settings = {"arch": "encdec", "objective": "denoise", "hidden_size": 8, "heads": 2, "seq_len": 16, "steps": 3}
    (wrote,) = [
        event
        for event in job.train(Plan.of(settings), Corpus.open([tmp_path / "fox.txt"]), out=tmp_path / "run")
        if isinstance(event, Wrote)
    ]
    assert wrote.text.count("[MASK]") >= 2
    assert wrote.text.count("\n  → ") == 2


@pytest.mark.parametrize("objective", ["denoise", "span"])
@pytest.mark.parametrize("arch", ["seq2seq", "encdec"])
def test_a_resumed_training_is_the_training(arch: str, objective: str, tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text(FOX * 9)
    sizes = {"hidden_size": 8, "seq_len": 16, "batch_size": 4, "steps": 8}
    plan, text = Plan.of({"arch": arch, "objective": objective, **sizes}), Corpus.open([tmp_path / "fox.txt"])
    list(job.train(plan, text, out=tmp_path / "straight"))
    list(job.train(plan, text, out=tmp_path / "cut", stop_after=5))
    list(job.resume(tmp_path / "cut", changes={}))
    straight, stopped = (charlm.load(tmp_path / name).model.state_dict() for name in ("straight", "cut"))
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)


@pytest.mark.parametrize(
    ("command", "run", "why"),
    [
        (["sample"], "restorer", "trained with --objective denoise; use charlm restore"),
        (["translate"], "filler", "trained with --objective span; use charlm restore"),
        (["lens", "--text", "a"], "restorer", "use charlm restore"),
        (["context"], "restorer", "use charlm restore"),
        (["attend", "--text", "a"], "restorer", "use charlm restore"),
        (["restore"], "masked", "trained with --objective masked; use charlm fill"),
        (
            ["restore"],
            "translator",
            "trained on pairs of source and target: it reads a source and writes a target; use",
        ),
        (["restore"], "trained", "trained with --objective causal, and not to restore; see charlm sample"),
        (["eval", "--beam", "2"], "trained", "--beam and --length-penalty are for runs that translate or restore"),
    ],
)
def test_a_run_and_a_command_that_do_not_fit_say_what_does(
    command: list[str], run: str, why: str, typed: Typed, heard: Heard, request: pytest.FixtureRequest
) -> None:
    heard("a fox\n")
    name, *options = command
    code, _, said = typed(name, request.getfixturevalue(run), *options)
    assert code == 2
    assert why in said
    assert said.count("\n") == 1


def test_gaps_are_refused_where_nothing_was_masked(tmp_path: Path, typed: Typed, heard: Heard) -> None:
    (tmp_path / "fox.txt").write_text(FOX * 20)
    goal = ["--objective", "denoise", "--noise", "delete,permute,rotate"]
    train = ["train", "fox.txt", "--arch", "encdec", *goal, "--hidden-size", "8", "--seq-len", "16", "--steps", "2"]
    code, said, _ = typed(*train, "--out", "run")
    assert code == 0
    assert said.rstrip().endswith("next: charlm restore run")
    heard("a [MASK] fox")
    code, _, why = typed("restore", "run")
    assert code == 2
    assert "learnt to undo --noise delete,permute,rotate, in which nothing is masked" in why
    heard("a fox")
    assert typed("restore", "run")[0] == 0


def test_last_and_best_are_looked_for_among_runs_that_restore(
    restorer: Path, trained: Path, tmp_path: Path, typed: Typed, heard: Heard
) -> None:
    heard("the quick")
    assert "with --objective denoise or span" in refused(typed, trained, tmp_path)
    for name, run in (("a", restorer), ("b", trained)):
        shutil.copytree(run, tmp_path / "runs" / name, dirs_exist_ok=True)
    for words in (["restore"], ["restore", "best"], ["restore", "fox.txt"]):
        (tmp_path / "fox.txt").write_text("the quick")
        heard("the quick")
        code, clean, why = typed(*words)
        assert (code, why) == (0, "")
        assert clean.startswith("the ")
    with pytest.raises(RunError, match="no run 'the quick'"):
        folder.find("the quick")
    assert "a text is restored so: echo 'the quick' | charlm restore" in typed("restore", "the quick")[2]


def refused(typed: Typed, trained: Path, tmp_path: Path) -> str:
    """What is said where no run restores."""
    shutil.copytree(trained, tmp_path / "runs" / "b")
    return typed("restore")[2]


def test_a_blank_before_a_gap_belongs_to_the_word_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text(FOX * 40)
    for tokenizer in ("bytebpe", "char", "word"):
        settings = {"arch": "seq2seq", "objective": "span", "hidden_size": 8, "seq_len": 16, "steps": 1}
        plan = Plan.of({**settings, "tokenizer": tokenizer, "vocab_size": 300})
        list(job.train(plan, Corpus.open([tmp_path / "fox.txt"]), out=tmp_path / tokenizer))
        writer = charlm.load(tmp_path / tokenizer)
        (piece,) = writer.damaged_pieces("the [MASK] fox")
        texts = [writer.tokenizer.tokens[id] if id < writer.tokenizer.vocab_size else None for id in piece]
        assert texts[texts.index(None) - 1] == (b"the" if tokenizer == "bytebpe" else b" ")


def test_pieces_fit_end_with_lines_or_words_and_are_the_whole_text() -> None:
    rng, texts = Random(0), [b"a", b" ", b"\n"]
    for _ in range(50):
        words = [[*[0] * rng.randrange(1, 5), rng.choice([1, 1, 1, 2, GAP])] for _ in range(rng.randrange(40))]
        ids = [id for word in words for id in word]
        pieces = list(cut(ids, lambda tokens, gaps: tokens + 3 * gaps <= 14, texts))
        assert [id for piece in pieces for id in piece] == ids
        assert all(len(piece) + 2 * piece.count(GAP) <= 14 for piece in pieces)
        if GAP not in ids:
            assert all(piece[-1] in (1, 2) for piece in pieces)
            assert all(2 not in piece[len(piece) // 2 : -1] or piece[-1] == 2 for piece in pieces)


def test_the_character_error_rate_is_of_the_fewest_changes() -> None:
    def slowly(a: str, b: str) -> int:
        if not (a and b):
            return len(a) + len(b)
        return min(slowly(a[1:], b[1:]) + (a[0] != b[0]), slowly(a[1:], b) + 1, slowly(a, b[1:]) + 1)

    words = ["".join(word) for size in range(4) for word in product("ab", repeat=size)]
    assert all(distance(a, b) == slowly(a, b) for a, b in product(words, words))
    assert distance("kitten", "sitting") == 3
    assert error_rate(["ab", "abc"], ["abcd", ""]) == (2 + 3) / 4


def test_runs_that_restore_are_compared_with_their_quality(
    restorer: Path, tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.kinds._restored.PIECES", 3)
    for name in ("a", "b"):
        shutil.copytree(restorer, tmp_path / name)
    code, said, _ = typed("compare", "a", "b", "--json")
    assert code == 0
    runs: list[dict[str, Any]] = [run for row in json.loads(said)["rows"] for run in row["runs"]]
    assert all({"bits_per_restored_byte", "cer", "cer_damaged", "exact", "write_speed"} <= run.keys() for run in runs)
    assert all(run["pieces"] == 3 for run in runs)
