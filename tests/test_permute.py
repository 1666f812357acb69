"""What is guessed of a text in which order, what a network learns from that, and what its runs are for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from texts import VERSES

import charlm
from charlm.config import DataSpec, Lengths
from charlm.inside.fill import Filled, fill
from charlm.model import PAD
from charlm.objectives._base import windows
from charlm.objectives.permute import Permute, by_row, drawn_places
from charlm.progress import result
from charlm.runs import folder

Typed = Callable[..., tuple[int, str, str]]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- what is guessed


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 13, 64, 100])
def test_of_every_row_a_sixth_is_guessed_each_place_as_often_as_the_others(size: int) -> None:
    places = drawn_places(6000, size, draws())
    count = max(1, size // 6)
    assert places.shape == (6000, count)
    assert all(len({*row}) == count for row in places.tolist())
    share = places.flatten().bincount(minlength=size) / 6000
    np.testing.assert_allclose(share, count / size, atol=0.03)


def test_spans_have_one_to_five_tokens_short_ones_more_often_and_surroundings_of_six_times_as_many() -> None:
    places = drawn_places(4000, 600, draws()).sort(1).values  # (B, 100)
    sizes = []
    for row in places[:500].tolist():
        runs = [[place for _, place in run] for _, run in itertools.groupby(enumerate(row), lambda p: p[1] - p[0])]
        sizes += [len(run) for run in runs]
    counts = np.bincount(sizes, minlength=7)[1:]  # two spans may touch
    assert (np.diff(counts[:5]) < 0).all()
    assert counts[5:].sum() < 0.1 * counts.sum()
    wide = places.unfold(1, 12, 1)  # twelve guessed ones are in three spans or more
    assert int((wide[..., -1] - wide[..., 0]).min()) > 12


def test_every_order_is_as_likely() -> None:
    places = drawn_places(6000, 18, draws())
    ranks = [tuple(row) for row in places.argsort(1).tolist()]
    shares = [ranks.count(order) / 6000 for order in itertools.permutations(range(3))]
    np.testing.assert_allclose(shares, 1 / 6, atol=0.02)


def test_padding_is_fed_as_such_and_not_scored() -> None:
    rows = torch.randint(50, (40, 31), generator=draws(1))
    rows[:, 9:] = PAD
    batch = Permute().batch((rows,), DataSpec(50, Lengths.of_text(30)), draws())
    assert batch.places is not None
    assert torch.equal(batch.tokens, rows[:, :-1])
    assert torch.equal(batch.targets, batch.tokens.gather(1, batch.places))
    assert torch.equal(batch.targets == PAD, batch.places >= 9)


def test_the_places_of_a_text_are_the_same_in_rows_of_any_length() -> None:
    places = drawn_places(1, 1000, draws())[0]
    for length in (7, 64, 1000, 5000):
        text = windows(torch.arange(1000)[None], length)
        rows = by_row(places, length, len(text))
        guessed = torch.where(rows == PAD, PAD, text.gather(1, rows.clamp(min=0)))
        assert sorted(guessed[guessed != PAD].tolist()) == sorted(places.tolist())
        order = {place: number for number, place in enumerate(places.tolist())}
        for row in guessed.tolist():
            numbers = [order[place] for place in row if place != PAD]
            assert numbers == sorted(numbers)


# ---- what is learnt


def test_it_learns_what_stands_around_a_place(permuted: Path) -> None:
    """Far better than by how often each token occurs; and the score is the same each time."""
    best = folder.info(permuted).best
    assert best is not None
    writer = charlm.load(permuted)
    counts = np.bincount(writer.tokenizer.encode(VERSES))
    share = counts[counts > 0] / counts.sum()
    assert best.value < 0.65 * float(-(share * np.log(share)).sum())
    part = type("Part", (), {"ids": writer.tokenizer.encode(VERSES)})
    first, second = (result(writer.objective.score(writer.model, part)) for _ in range(2))
    assert first == second
    assert first.tokens == len(part.ids) // 6


@torch.no_grad()
def test_a_gap_is_filled_with_the_likeliest_tokens_of_one_joint_distribution(permuted: Path) -> None:
    """The share of two tokens is that of the first, without the second, times that of the second, given the first."""
    writer = charlm.load(permuted)
    ids = torch.from_numpy(writer.tokenizer.encode("The l\n\nmp is out"))[None]
    order = torch.tensor([[5, 6]])
    (gap,) = filled("The l[MASK]{2}mp is out", permuted).gaps
    for guess in gap.guesses:
        ids[0, 5:7] = torch.from_numpy(writer.tokenizer.encode(guess.text))
        logprobs = writer.model(ids, places=order).log_softmax(-1)[0]
        share = float((logprobs[0, ids[0, 5]] + logprobs[1, ids[0, 6]]).exp())
        assert guess.share == pytest.approx(share, rel=1e-4)
    (single,) = filled("The l[MASK]mp is out", permuted, top=1000).gaps
    assert sum(guess.share for guess in single.guesses) == pytest.approx(1)


def filled(text: str, run: Path, top: int = 5) -> Filled:
    return result(fill(charlm.load(run), text, top))


@torch.no_grad()
def test_gaps_are_filled_and_later_ones_tell_nothing_of_what_is_in_them(permuted: Path) -> None:
    text = "WICK:\nThe l[MASK]mp is out, t[MASK]e tide is in.\n"
    assert filled(text, permuted).text == "WICK:\nThe lamp is out, the tide is in.\n"
    first = filled("The l[MASK]mp is [MASK]{3}, the", permuted).gaps[0]
    writer = charlm.load(permuted)
    ids = torch.from_numpy(writer.tokenizer.encode("The lamp is out, the"))[None]
    shares = writer.model(ids, places=torch.tensor([[5, 13, 14, 12]]))[0, 0].softmax(-1)
    assert first.guesses[0].share == pytest.approx(float(shares.max()), rel=1e-4)
    long = "The lamp is out, the tide is in, and I am wet to the knee.\n" * 4
    assert filled(f"{long}The l[MASK]mp is out, {long}", permuted).text == f"{long}The lamp is out, {long}"


# ---- what its runs are for


def test_the_commands_for_its_runs(permuted: Path, typed: Typed) -> None:
    code, out, _ = typed("eval", permuted, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["nats_per_guessed_token"] > 0
    assert "bits_per_byte" not in told
    code, out, _ = typed("attend", permuted, "--text", "The lamp is out", "--json")
    assert code == 0
    assert json.loads(out)["both_ways"]
    assert typed("similar", permuted, "--text", "the tide", "--json")[0] == 0
    Path("lines.txt").write_text("The lamp\nis out\n")
    assert typed("features", permuted, "lines.txt", "--out", "vectors.npy")[0] == 0
    told = json.loads(typed("ablate", permuted, "--json", "--max-bytes", "300")[1])
    assert {part["place"] for part in told["parts"]} >= {"layer 1 attention", "layer 2 feed-forward"}


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "R"],
        ["explain", "R", "--prompt", "a"],
        ["lens", "R", "--text", "lamp"],
        ["score", "R", "verses.txt"],
        ["compress", "R", "verses.txt"],
        ["restore", "R", "verses.txt"],
        ["context", "R"],
    ],
    ids=lambda words: words[0],
)
def test_what_it_cannot_do_is_refused_in_a_line_that_says_what_it_can(
    words: list[str], permuted: Path, typed: Typed
) -> None:
    Path("verses.txt").write_text(VERSES)
    code, out, err = typed(*[permuted if word == "R" else word for word in words])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "this run was trained with --objective permute; use charlm fill" in err


SIZES = ["--layers", "1", "--hidden-size", "16", "--seq-len", "32", "--quiet"]


def test_a_run_is_resumed_and_starts_others(typed: Typed, verses: Path) -> None:
    train = ["train", verses, "--arch", "xlnet", *SIZES]
    code, out, _ = typed(*train[:-1], "--steps", "2", "--out", "a")
    assert code == 0
    assert out.rstrip().endswith('next: charlm fill a "[MASK]"')
    assert typed("train", "--resume", "a", "--steps", "4", "--quiet")[0] == 0
    assert charlm.load("a").objective == Permute()
    rows = [f"{word}\t{name}\n" for name, word in (("dark", "The lamp is out"), ("wet", "the tide is in"))]
    Path("labels.tsv").write_text("".join(rows * 20))
    code, out, _ = typed("train", "labels.tsv", "--init-from", "a", "--steps", "2", "--out", "classes")
    assert code == 0
    assert "of its head are left out" in out
    (answer,) = charlm.load("classes").classify(["the tide"])
    assert {name for name, _ in answer} == {"dark", "wet"}
    code, _, err = typed("train", verses, "--init-from", "a", "--objective", "masked", "--steps", "1", "--quiet")
    assert (code, err.count("\n")) == (2, 1)
    assert "with another --objective its weights do not fit" in err, "it has no symbol that hides a token"


def test_its_scores_stand_in_no_ranking_with_those_of_another_measure(typed: Typed, verses: Path) -> None:
    entrants = {
        "any-order": ["--arch", "xlnet"],
        "bytes": ["--arch", "xlnet", "--tokenizer", "byte"],
        "hidden": ["--arch", "xlnet", "--objective", "masked"],
        "causal": ["--arch", "lstm"],
    }
    for name, settings in entrants.items():
        options = [word for word in SIZES if word not in ("--layers", "1")] if name == "causal" else SIZES
        assert typed("train", verses, *settings, *options, "--steps", "2", "--out", f"runs/{name}")[0] == 0
    for other, measure in (("hidden", "nats/masked token"), ("causal", "bits/byte")):
        code, _, err = typed("compare", "runs/any-order", f"runs/{other}")
        assert code == 2
        assert f"scores in different measures (nats/guessed token, {measure}) do not compare" in err
    code, _, err = typed("compare", "runs/any-order", "runs/bytes")
    assert code == 2
    assert "nats per guessed token depend on what a token is" in err
    assert typed("train", verses, "--arch", "xlnet", *SIZES, "--steps", "3", "--out", "runs/longer")[0] == 0
    code, out, _ = typed("compare", "runs/any-order", "runs/longer", "--json")
    assert code == 0
    assert "nats_per_guessed_token" in out
