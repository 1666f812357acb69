"""The best line for a source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from charlm.archs.seq2seq import Seq2Seq
from charlm.config import DataSpec, Lengths, Settings
from charlm.model import PAD, Features, LanguageModel, State
from charlm.sampling.beam import Search, beam_alone, beam_search
from charlm.sampling.filters import Picker
from charlm.sampling.lines import Hypothesis, write_lines
from charlm.sampling.noise import streams
from charlm.sampling.settings import SampleSettings

NEWLINE = 0
ALPHAS = [0.0, 0.6, 2.0]
SEEDS = [4, 14, 24, 37]


def build(seed: int, vocabulary: int = 4) -> Seq2Seq:
    """A model that has learned nothing and is sure of it: some of its lines end soon, some late, some never."""
    torch.manual_seed(seed)
    model = Seq2Seq(Seq2Seq.Config(hidden_size=8, dropout=0.5), DataSpec(vocabulary, Lengths.of_text(64)))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 1.5)
        model.head.bias[NEWLINE] += 2
    return model.eval()


def sources(sizes: list[int], vocabulary: int = 4, width: int = 0) -> Tensor:
    """Lines of so many tokens, the last a newline."""
    table = torch.full((len(sizes), max(width, *sizes)), PAD)
    for row, size in enumerate(sizes):
        table[row, : size - 1] = torch.randint(1, vocabulary, (size - 1,), generator=torch.Generator().manual_seed(row))
        table[row, size - 1] = NEWLINE
    return table


def search(model: LanguageModel, source: Tensor, beams: int, alpha: float = 0.6, **how: Any) -> list[list[Hypothesis]]:
    how = {"limit": 12, "newline": NEWLINE, **how}
    return beam_search(model, source, Search(beams=beams, length_penalty=alpha, **how))


def greedy(model: LanguageModel, source: Tensor, limit: int = 12) -> list[Hypothesis]:
    return write_lines(model, source, lambda logits: logits.argmax(-1), newline=NEWLINE, limit=limit)


def sample(model: LanguageModel, source: Tensor, temperature: str) -> list[Hypothesis]:
    pick = Picker(SampleSettings(temperature), streams(0, range(len(source))))
    return write_lines(model, source, pick, newline=NEWLINE, limit=12)


@torch.no_grad()
def log_probability(model: LanguageModel, source: Tensor, said: Hypothesis) -> float:
    """By teacher forcing, of a source (S,)."""
    targets = torch.tensor([[*said.ids, NEWLINE] if said.finished else said.ids])
    fed = torch.cat([torch.tensor([[NEWLINE]]), targets[:, :-1]], 1)
    guesses = model(fed, source=source[source != PAD][None]).logits.log_softmax(-1)
    return float(guesses.gather(2, targets[..., None]).sum())


def score(said: Hypothesis, alpha: float) -> float:
    return said.log_probability / ((5 + len(said.ids) + said.finished) / 6) ** alpha


def same(some: list[Hypothesis], others: list[Hypothesis]) -> None:
    """The same lines; of other shapes, arithmetic may differ in the last place."""
    assert [(h.ids, h.finished) for h in some] == [(h.ids, h.finished) for h in others]
    assert [h.log_probability for h in some] == pytest.approx([h.log_probability for h in others], abs=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("seed", SEEDS)
def test_one_beam_is_greedy(seed: int, alpha: float) -> None:
    model, source = build(seed, 9), sources([3, 9, 1, 6, 5, 2, 8, 4], 9)
    assert [lines[0] for lines in search(model, source, 1, alpha)] == greedy(model, source)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_beam_that_holds_everything_finds_the_best_of_all_lines(seed: int, alpha: float) -> None:
    model, source = build(seed), sources([4, 2, 6])
    every = [Hypothesis(list(ids), 0.0, True) for size in range(5) for ids in product((1, 2, 3), repeat=size)]
    for row, lines in zip(source, search(model, source, 400, alpha, limit=5, n_best=3), strict=True):
        known = [line._replace(log_probability=log_probability(model, row, line)) for line in every]
        same(lines, sorted(known, key=lambda line: -score(line, alpha))[:3])


@pytest.mark.parametrize("beams", [2, 5])
def test_what_is_said_of_a_line_is_its_probability_under_the_model(beams: int) -> None:
    model, source = build(14, 9), sources([3, 9, 1], 9)
    told = [*search(model, source, beams, n_best=2), *[[line] for line in greedy(model, source)]]
    told += [[line] for line in sample(model, source, "1.5")]
    for row, lines in zip([*source] * 3, told, strict=True):
        for line in lines:
            assert line.log_probability == pytest.approx(log_probability(model, row, line), abs=1e-4)


def test_neither_its_place_in_the_batch_nor_padding_changes_a_line() -> None:
    model, sizes = build(14, 9), [3, 9, 1, 6, 5]
    source, order = sources(sizes, 9, width=15), torch.tensor([3, 0, 4, 2, 1])
    for row, lines in enumerate(search(model, source, 3, n_best=3)):
        same(search(model, source[row : row + 1, : sizes[row]], 3, n_best=3)[0], lines)
    for row, lines in zip(order, search(model, source[order], 3, n_best=3), strict=True):
        same(search(model, source, 3, n_best=3)[row], lines)
    for row, line in enumerate(greedy(model, source)):
        same(greedy(model, source[row : row + 1, : sizes[row]]), [line])


@pytest.mark.parametrize("seed", SEEDS)
def test_no_narrow_beam_finds_a_likelier_line_than_one_that_holds_everything(seed: int) -> None:
    model, source = build(seed), sources([4, 2, 6])
    whole = search(model, source, 400, 0.0, limit=5)
    for beams in (1, 2, 3, 5):
        for [best], [line] in zip(whole, search(model, source, beams, 0.0, limit=5), strict=True):
            assert not line.finished or line.log_probability <= best.log_probability + 1e-5


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_the_best_come_first_none_comes_twice_and_none_is_too_long(limit: int, alpha: float) -> None:
    for lines in search(build(24), sources([4, 2, 6, 5]), 8, alpha, limit=limit, n_best=8):
        assert sorted(lines, key=lambda line: (not line.finished, -score(line, alpha))) == lines
        assert len({(tuple(line.ids), line.finished) for line in lines}) == len(lines)
        assert all(len(line.ids) + line.finished <= limit for line in lines)
        assert all(NEWLINE not in line.ids for line in lines)
        assert all(len(line.ids) == limit for line in lines if not line.finished)
        assert len(lines) == (4 if limit == 1 else 8)


def test_a_line_is_drawn_from_the_model_and_without_warmth_it_is_the_likeliest() -> None:
    model, source = build(24, 9), sources([3, 9, 1, 6], 9)
    assert sample(model, source, "0") == greedy(model, source)
    one = source[:1].expand(2000, -1)
    share = sum(line.ids[:1] == [1] for line in sample(model, one, "1")) / 2000
    first = log_probability(model, source[0], Hypothesis([1], 0.0, finished=False))
    assert share == pytest.approx(math.exp(first), abs=0.04)


class Table(LanguageModel):
    """Says what a table says of the last token."""

    @dataclass(frozen=True)
    class Config(Settings):
        pass

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__(self.Config(), DataSpec(len(table), Lengths.of_text(64)))
        self.table = torch.tensor(table)
        self.head = lambda x: x
        self.rows: list[int] = []  # of each step

    def read(self, source: Tensor) -> State:
        return source

    def start(self, rows: int) -> State:
        return torch.zeros(rows, 0)

    def features(self, tokens: Tensor, state: State) -> Features:
        self.rows.append(len(tokens))
        return Features(self.table[tokens].log(), state)


TEXTBOOK = Table(
    [  # newline   a     b     c
        [0.001, 0.500, 0.400, 0.099],
        [0.400, 0.200, 0.200, 0.200],  # a leads nowhere in particular: .5 x .4
        [0.900, 0.050, 0.025, 0.025],  # b is a line: .4 x .9
        [0.250, 0.250, 0.250, 0.250],
    ]
)


def test_two_beams_see_what_greedy_decoding_misses() -> None:
    source = sources([1])
    assert greedy(TEXTBOOK, source)[0].ids == [1]
    for alpha in (0.0, 0.6):
        [[best, second]] = search(TEXTBOOK, source, 2, alpha, n_best=2)
        assert (best.ids, second.ids) == ([2], [1])
        assert best.log_probability == pytest.approx(math.log(0.4 * 0.9))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_beam_is_worse_than_greedy(alpha: float) -> None:
    """By the score that it ranks with; and it does not become worse than a beam alone."""
    lost, source = 0, sources([1])

    def rank(line: Hypothesis) -> tuple[bool, float]:
        return line.finished, score(line, alpha)

    for seed in range(20):
        model = Table(torch.randn(40, 40, generator=torch.Generator().manual_seed(seed)).softmax(-1).tolist())
        [line], [[alone]] = greedy(model, source, limit=20), beam_alone(model, source, Search(NEWLINE, 20, 2, alpha))
        for n_best in (1, 2):
            [best, *_] = search(model, source, 2, alpha, limit=20, n_best=n_best)[0]
            assert rank(best) == pytest.approx(max(rank(line), rank(alone)))
        lost += rank(alone) < rank(line)
    assert lost  # a beam alone may lose it


def test_bad_lines_that_end_soon_do_not_keep_a_good_one_from_its_end() -> None:
    way = [[0.02, 0.98, 0, 0], [0.02, 0, 0.98, 0], [0.02, 0, 0, 0.98], [0.98, 0.02, 0, 0]]
    for beams, alpha in product((1, 2, 3), ALPHAS):
        assert search(Table(way), sources([1]), beams, alpha)[0][0].ids == [1, 2, 3]


def test_a_length_penalty_makes_the_best_line_longer() -> None:
    model = Table([[0.3, 0.7], [0.3, 0.7]])
    assert [len(search(model, sources([1]), 30, alpha)[0][0].ids) for alpha in (0.0, 3.0)] == [0, 11]


def test_where_nothing_ends_the_best_beginning_is_told_as_such() -> None:
    model = Table([[0.0, 1.0], [0.0, 1.0]])
    expected = Hypothesis([1] * 12, 0.0, finished=False)
    assert greedy(model, sources([1])) == [expected]
    assert search(model, sources([1]), 3, n_best=2) == [[expected]]


def test_sentences_that_are_done_cost_nothing() -> None:
    class Countdown(Table):
        """Writes as many tokens as the source says, then a newline."""

        def features(self, tokens: Tensor, state: State) -> Features:
            super().features(tokens, state)
            ends = torch.stack([state == 0, state != 0], -1)  # (B, 1, 2)
            return Features(ends.float().log(), state - 1)

    model, source = Countdown([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([[0], [2], [1], [2]])
    assert [line.ids for line in greedy(model, source)] == [[], [1, 1], [1], [1, 1]]
    assert model.rows == [4, 3, 2]
    assert [line.ids for [line] in search(model, source, 2)] == [[], [1, 1], [1], [1, 1]]
    assert model.rows[4:] == [6, 4, 4, 3, 2]  # and the greedy lines
