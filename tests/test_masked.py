"""What is hidden of a text, what is asked of it, and what a network learns from that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from texts import VERSES
from torch import Tensor

import charlm
from charlm.config import DataSettings, DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.model import PAD
from charlm.objectives._hiding import MASK, Hidden, hide
from charlm.objectives.masked import CLS, SEP, Masked
from charlm.plan import Plan
from charlm.progress import result
from charlm.runs import folder
from charlm.text.tokenizers import Tokenizer, utf8
from charlm.text.vocabulary import Vocabularies, train_tokenizer

Typed = Callable[..., tuple[int, str, str]]
SPEC = DataSpec(50, Lengths.of_text(40), symbols=3)
TOKENIZERS = ["char", "byte", "word", "bytebpe", "bpe"]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fifteen_percent_are_asked_for_and_of_these_most_are_hidden_some_changed_and_some_kept() -> None:
    windows = torch.randint(50, (4000, 41), generator=draws(1))
    batch = Masked().batch((windows,), SPEC, draws())
    text = windows[:, :-1]
    chosen = batch.targets != PAD
    assert float(chosen.float().mean()) == pytest.approx(0.15, abs=0.005)
    assert torch.equal(batch.targets[chosen], text[chosen])
    assert torch.equal(batch.tokens[~chosen], text[~chosen])
    fed = batch.tokens[chosen]
    hidden, kept = fed == 50 + MASK, fed == text[chosen]
    assert float(hidden.float().mean()) == pytest.approx(0.8, abs=0.01)
    assert float(kept.float().mean()) == pytest.approx(0.1 + 0.1 / 50, abs=0.01)
    changed = fed[~hidden & ~kept]
    assert int(changed.max()) < 50, "a random token is never a symbol"
    assert len(changed.unique()) == 50


def test_of_the_shortest_row_a_token_is_asked_for_and_of_padding_none() -> None:
    windows = torch.full((200, 41), PAD)
    windows[:, :2] = torch.arange(2)
    windows[0] = PAD
    targets = Masked().batch((windows,), SPEC, draws()).targets
    assert (targets[1:] != PAD).any(1).all()
    assert (targets[:, 2:] == PAD).all()
    assert (targets[0] == PAD).all()


def spelt(tokenizer: str, text: str) -> tuple[Tokenizer, Tensor, DataSpec, list[tuple[int, int]]]:
    """(the tokenizer, ids (1, T + 1), what is known of them, where each token's bytes begin and end)."""
    settings = DataSettings(tokenizer=tokenizer, vocab_size=300)  # type: ignore[arg-type]
    made = result(train_tokenizer(settings, lambda: iter([text])))
    ids = made.encode(text)
    ends = np.cumsum([len(made.tokens[id]) for id in ids.tolist()]).tolist()
    spec = Vocabularies(made, made).spec(Lengths.of_text(len(ids)))._replace(symbols=3)
    return made, torch.from_numpy(np.append(ids, 0))[None], spec, list(zip([0, *ends], ends, strict=False))


def asked(mask: str, ids: Tensor, spec: DataSpec, seed: int) -> list[bool]:
    targets = Masked(mask=mask).batch((ids,), spec, draws(seed)).targets  # type: ignore[arg-type]
    return (targets[0] != PAD).tolist()


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_word_is_hidden_whole_or_not_at_all(tokenizer: str) -> None:
    """By any tokenizer: accents and apostrophes as words have them, and parts of a word in several tokens."""
    text = VERSES[:700] + " Ünd mörè, e\u0301tude x_1 42!\n"
    _, ids, spec, places = spelt(tokenizer, text)
    words = [(len(utf8(text[: m.start()])), len(utf8(text[: m.end()]))) for m in re.finditer(r"[\w\u0301]+", text)]
    several = 0
    for seed in range(5):
        chosen = asked("whole-word", ids, spec, seed)
        for start, end in words:
            of_word = [was for was, (a, b) in zip(chosen, places, strict=True) if a < end and b > start]
            assert len({*of_word}) == 1, text.encode()[start:end]
            several += len(of_word) > 1
    assert several > 0 or tokenizer == "word"
    assert {*asked("token", ids, spec, 0)} == {True, False}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_phrase_is_up_to_three_words_of_one_clause(tokenizer: str) -> None:
    text = ("one two three four five six seven eight nine ten" * 4 + ", new; clause.\n") * 40
    _, ids, spec, places = spelt(tokenizer, text)
    sizes = []
    for seed in range(8):
        chosen = asked("phrase", ids, spec, seed)
        hidden = "".join(
            utf8(text)[a:b].decode() if was else "|" * (b - a) for was, (a, b) in zip(chosen, places, strict=True)
        )
        runs = [run for run in re.split(r"\|+", hidden) if run]
        sizes += [len(re.findall(r"\w+", run)) for run in runs if re.fullmatch(r" ?\w+( \w+)*", run)]
    counts = np.bincount(sizes, minlength=4)[1:4] / len(sizes)  # two phrases in a row may be chosen, too
    assert counts[0] > counts[1] > counts[2] > 0.08
    assert counts.sum() > 0.7


def test_without_letters_a_phrase_is_a_token() -> None:
    _, ids, spec, _ = spelt("char", "?!.;\n" * 60)
    assert np.mean([np.mean(asked("phrase", ids, spec, seed)) for seed in range(20)]) == pytest.approx(0.15, abs=0.02)


def test_two_texts_stand_between_symbols_and_the_second_follows_or_comes_from_another_row() -> None:
    """Every row begins with another token, so that it is seen where a text is from; lines end at random places."""
    _, line, spec, _ = spelt("char", "\n" + "".join(map(chr, range(0x100, 0x100 + 64))))
    newline, size = int(line[0, 0]), 37
    spec = spec._replace(lengths=Lengths.of_text(40))
    windows = torch.arange(1, 65)[:, None].repeat(1, 41)
    ends = torch.rand(64, 41, generator=draws(1)) < 0.1
    windows[ends] = newline
    seen, vocabulary = set(), spec.vocab_size
    batch = Masked(next_sentence=True).batch((windows,), spec, draws())
    assert batch.answers is not None
    assert batch.segments is not None
    whole = torch.where(batch.targets == PAD, batch.tokens, batch.targets)  # nothing hidden
    for row, (tokens, segments, answer) in enumerate(zip(whole, batch.segments, batch.answers.tolist(), strict=True)):
        first, middle, last = (tokens >= vocabulary).nonzero()[:, 0].tolist()
        assert tokens[[first, middle, last]].tolist() == [vocabulary + CLS, vocabulary + SEP, vocabulary + SEP]
        one, other = tokens[1:middle], tokens[middle + 1 : last]
        assert first == 0
        assert torch.equal(one, windows[row, : len(one)])
        assert len(other) == size // 2, "lengths do not tell the answer"
        assert (tokens[last + 1 :] == PAD).all()
        assert segments[: middle + 1].eq(0).all()
        assert segments[middle + 1 : last + 1].eq(1).all()
        source = {int(token) for token in other} - {newline}
        if answer == 0:
            assert torch.equal(other, windows[row, len(one) : len(one) + len(other)])
        else:
            assert source.isdisjoint({row + 1})
        lines = windows[row, : size - size // 2] == newline
        assert not lines.any() or int(one[-1]) == newline, "the second text begins with a line"
        seen.add(answer)
    assert seen == {0, 1}
    assert (batch.targets < vocabulary).all()


def test_rows_that_hold_no_two_texts_are_refused(typed: Typed, verses: Path) -> None:
    code, _, err = typed("train", verses, "--arch", "bert", "--next-sentence", "--seq-len", "4", "--steps", "1")
    assert code == 2
    assert "--next-sentence puts two texts and 3 symbols into a row" in err
    assert not Path("runs").exists()


def test_a_row_alone_is_asked_for_no_next_sentence(typed: Typed, verses: Path) -> None:
    code, _, err = typed("train", verses, "--arch", "bert", "--next-sentence", "--batch-size", "1", "--steps", "1")
    assert code == 2
    assert "--next-sentence takes texts from other rows of a batch, which --batch-size 1 has none of" in err
    _, ids, spec, _ = spelt("char", VERSES)
    batch = Masked(next_sentence=True).batch((ids[:, :41],), spec._replace(lengths=Lengths.of_text(40)), draws())
    assert batch.answers is not None
    assert batch.answers.tolist() == [PAD]


def test_a_training_that_starts_from_a_run_goes_on_with_its_objective_as_it_was_set(typed: Typed, verses: Path) -> None:
    sizes = ["--layers", "1", "--hidden-size", "16", "--seq-len", "32"]
    code, out, _ = typed("train", verses, "--arch", "bert", "--mask", "phrase", *sizes, "--steps", "1", "--out", "a")
    assert code == 0
    assert out.rstrip().endswith('next: charlm fill a "[MASK]"')
    assert typed("fill", "a", "[MASK]")[0] == 0
    assert typed("train", verses, "--init-from", "a", "--steps", "1", "--out", "b")[0] == 0
    assert charlm.load("b").objective == Masked(mask="phrase")


@torch.no_grad()
def test_the_same_places_are_scored_whatever_the_rows_and_whatever_is_hidden_in_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer, ids, _, _ = spelt("char", VERSES)
    part = type("Part", (), {"ids": ids[0, :-1].numpy().astype(np.uint8)})
    scored, targets = set(), []

    def listening(*given: Any) -> Hidden:
        hidden = hide(*given)
        targets.append(hidden.targets)
        return hidden

    monkeypatch.setattr("charlm.objectives.masked.hide", listening)
    for window, mask in ((16, "token"), (64, "token"), (64, "phrase")):
        plan = Plan.of({"arch": "bert", "hidden_size": 16, "layers": 1, "mask": mask, "seq_len": window})
        network = plan.build(Vocabularies(tokenizer, tokenizer).spec(Lengths.of_text(window)))
        first, second = (result(plan.objective.score(network, part)) for _ in range(2))
        assert first == second
        assert first.chars == first.bytes == first.tokens
        scored.add(first.tokens)
    assert len(scored) == 1
    assert all(torch.equal(one, targets[0]) for one in targets)
    assert scored.pop() == pytest.approx(0.15 * len(VERSES), rel=0.1)


def test_it_learns_what_stands_around_a_gap(masked: Path) -> None:
    """Far better than by how often each token occurs."""
    best = folder.info(masked).best
    assert best is not None
    writer = charlm.load(masked)
    counts = np.bincount(writer.tokenizer.encode(VERSES))
    share = counts[counts > 0] / counts.sum()
    assert best.value < 0.65 * float(-(share * np.log(share)).sum())


def test_next_sentences_are_told_apart_and_the_share_is_reported(typed: Typed) -> None:
    """Whether two halves are of one sort, which is plain."""
    letters = Random(0).choices("abcdefgh", k=150)
    Path("sorts.txt").write_text("".join(10 * f"{9 * letter}\n" for letter in letters))
    sizes = ["--layers", "1", "--hidden-size", "32", "--seq-len", "32", "--batch-size", "32", "--dropout", "0"]
    train = ["train", "sorts.txt", "--arch", "bert", "--next-sentence", *sizes, "--val-frac", "0.2", "--lr", "3e-3"]
    code, out, _ = typed(*train, "--steps", "300", "--out", "run")
    assert code == 0
    assert "next_sentence" in out
    code, out, _ = typed("eval", "run", "--json")
    assert code == 0
    told = json.loads(out)
    assert 0.75 < told["next_sentence"] <= 1
    assert "bits_per_byte" not in told


def test_scores_of_hidden_tokens_stand_in_no_ranking_with_others(typed: Typed, verses: Path) -> None:
    sizes = ["--layers", "1", "--hidden-size", "16", "--steps", "2", "--quiet"]
    for name, settings in {
        "masked": ["--arch", "bert"],
        "bytes": ["--arch", "bert", "--tokenizer", "byte"],
        "causal": ["--arch", "lstm"],
    }.items():
        assert typed("train", verses, *settings, *sizes, "--out", f"runs/{name}")[0] == 0
    code, _, err = typed("compare", "runs/masked", "runs/causal")
    assert code == 2
    assert "scores in different measures (nats/masked token, bits/byte) do not compare" in err
    code, _, err = typed("compare", "runs/masked", "runs/bytes")
    assert code == 2
    assert "nats per masked token depend on what a token is" in err
    code, _, err = typed("compare", verses, "--arch", "bert:tokenizer=char,bert:tokenizer=byte", "--steps", "1")
    assert code == 2
    assert "compare those of one tokenizer" in err
    Path("short.txt").write_text("The lamp")
    code, _, err = typed("score", "runs/masked", "short.txt", "--diff", "runs/bytes")
    assert code == 2
    assert "have different vocabularies, across which pseudo-bits per byte do not compare" in err
    names = {info.path.name: info for info in folder.list_runs()}
    order = [names["causal"], names["bytes"], names["masked"]]
    for newest in (names["causal"], names["bytes"], names["masked"]):
        best = folder.best_of([*(info for info in order if info is not newest), newest])
        assert best is newest, "each is alone with its measure and its vocabulary"


def test_another_network_cannot_be_asked_for_next_sentences(masked: Path) -> None:
    plan = Plan.of({"arch": "bert", "next_sentence": True, "hidden_size": 16, "layers": 1})
    batch = plan.objective.batch((torch.zeros(4, 41, dtype=torch.long),), SPEC, draws())
    with pytest.raises(SettingsError, match=r"--next-sentence needs a network that judges a text as a whole"):
        plan.objective.loss(charlm.load(masked).model, batch, ())
