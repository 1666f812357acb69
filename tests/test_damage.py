"""Damage to a text: BART's five noises and T5's spans, held to the papers' examples and to what they promise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, groupby, pairwise, permutations
from typing import Any

import pytest
import torch

from charlm import objectives
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.model import leaves
from charlm.objectives._restoring import GAP
from charlm.objectives.denoise import NOISES, infilled, sentences
from charlm.objectives.span import Span, with_gaps
from charlm.plan import Plan

LETTERS = [b"A", b" B", b" C", b" .", b" D", b" E", b" ."]  # of BART's figure 2: two sentences, of which 3 and 6 end
FIGURE = [0, 1, 2, 3, 4, 5, 3]
V = 12
END, MASK = V, V + 1
SPEC = DataSpec(V, Lengths.of_text(16), tokens=[*LETTERS[:6], b"x", b"\n", b"!", b" ", b"Y", b'"'])


def damaged(ids: list[int], seed: int = 0, **settings: Any) -> list[int]:
    objective = objectives.load("denoise")(**settings)
    return objective.damage(ids, objective.fitted(SPEC), torch.Generator().manual_seed(seed)).source


def text(size: int, seed: int) -> list[int]:
    return torch.randint(V, (size,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize(
    ("noise", "share", "published"),
    [
        ("mask", 0.3, [0, MASK, 2, 3, MASK, 5, 3]),  # A _ C . _ E .
        ("delete", 0.3, [0, 2, 3, 5, 3]),  # B and D are gone
        ("infill", 0.25, [0, MASK, 3, 4, MASK, 5, 3]),  # A _ . D _ E .
        ("permute", 0.3, [4, 5, 3, 0, 1, 2, 3]),  # D E . A B C .
        ("rotate", 0.3, [2, 3, 4, 5, 3, 0, 1]),  # C . D E . A B
    ],
)
def test_what_figure_2_of_bart_shows_is_what_chance_may_do(noise: str, share: float, published: list[int]) -> None:
    assert any(damaged(FIGURE, seed, noise=noise, share=share) == published for seed in range(9000))


def test_an_infilled_span_becomes_one_symbol_and_a_span_of_nothing_is_one_more() -> None:
    assert infilled(FIGURE, [None, 2, None, None, 0, None, None], MASK) == [0, MASK, 3, 4, MASK, 5, 3]


def test_infill_hides_a_share_in_spans_of_the_mean_length_and_never_makes_a_text_longer() -> None:
    hidden, symbols = 0, 0
    for seed in range(300):
        clean = text(1 + seed % 200, seed)
        source = damaged(clean, seed)
        kept = [id for id in source if id != MASK]
        assert len(clean) - len(kept) == -(-3 * len(clean) // 10)  # a share of 0.3, rounded up
        assert len(source) <= len(clean)
        assert is_part(kept, clean)
        hidden += len(clean) - len(kept)
        symbols += len(source) - len(kept)
    assert 2.6 < hidden / symbols < 3.2  # Poisson's mean, less what a budget cuts off


def is_part(some: list[int], whole: list[int]) -> bool:
    """Whether `some` stand in `whole` in their order."""
    at = iter(whole)
    return all(id in at for id in some)


def test_mask_and_delete_take_a_share_of_the_tokens_and_leave_the_others() -> None:
    for seed in range(100):
        clean = text(1 + seed, seed)
        masked, shorter = damaged(clean, seed, noise="mask"), damaged(clean, seed, noise="delete")
        assert [a for a, b in zip(masked, clean, strict=True) if a != b] == [MASK] * max(1, round(0.3 * len(clean)))
        assert len(shorter) == max(1, len(clean) - max(1, round(0.3 * len(clean))))
        assert is_part(shorter, clean)


def test_permute_moves_whole_sentences_and_rotate_begins_elsewhere() -> None:
    clean = [0, 1, 3, 4, 5, 3, 9, 6, 7, 10, 6, 8, 7, 1]
    assert SPEC.tokens
    orders = [[*chain(*order)] for order in permutations(sentences(clean, SPEC.tokens))]
    assert len(orders) == 120  # of five sentences
    for seed in range(50):
        assert damaged(clean, seed, noise="permute") in orders[1:]
        turned = damaged(clean, seed, noise="rotate")
        assert turned in [clean[at:] + clean[:at] for at in range(1, len(clean))]


@pytest.mark.parametrize("noise", NOISES)
def test_a_noise_changes_whatever_it_can_change(noise: str) -> None:
    for seed in range(60):
        clean = text(2 + seed % 9, seed)
        if noise == "permute":
            clean = [*clean, 3, *text(2, seed + 1), 9] * 2  # " . Y" begins a sentence
        if len({*clean}) > 1 and (noise != "permute" or differing_sentences(clean)):
            assert damaged(clean, seed, noise=noise) != clean
    for fixed in ([6], [6, 6, 6, 6]):
        assert noise not in ("permute", "rotate") or damaged(fixed, noise=noise) == fixed


def differing_sentences(clean: list[int]) -> bool:
    assert SPEC.tokens
    return len({*map(tuple, sentences(clean, SPEC.tokens))}) > 1


def test_noises_are_made_in_one_order_whatever_the_order_of_their_names() -> None:
    for names in ("rotate,infill,permute", "permute, rotate,infill"):
        assert damaged(FIGURE * 3, 5, noise=names) == damaged(FIGURE * 3, 5, noise="infill,rotate,permute")
    for seed in range(50):
        source = damaged(FIGURE * 3, seed, noise="mask,infill,delete,rotate,permute", share=0.6)
        assert MASK in source
        assert {*source} <= {*FIGURE, MASK}


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_noises_together_leave_something_of_the_shortest_text(size: int) -> None:
    for seed in range(30):
        assert damaged(text(size, seed), seed, noise=",".join(NOISES), share=0.9)


@pytest.mark.parametrize("noise", ["", "infil", "infill;mask", "infill,"])
def test_a_noise_that_is_none_is_refused(noise: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^--noise must be one of permute, infill, mask, delete, rotate, or several"
    ):
        objectives.load("denoise")(noise=noise)


@pytest.mark.parametrize(
    "cut",
    [
        ["To be. ", "Not to be! ", "What?"],
        ['"Go!" ', "he said.\n\n", "3.5 of e.g.\n", "them... ", "so"],
        ["one line\n", "and another\n"],
        ["no end at all"],
    ],
)
def test_a_sentence_ends_at_a_mark_with_a_blank_behind_or_with_a_line_in_any_tokens(cut: list[str]) -> None:
    whole = "".join(cut)
    assert pieces(list(whole)) == cut
    words = ["".join(group) for _, group in groupby(whole, str.isspace)]
    assert pieces(words) == cut


def pieces(tokens: list[str]) -> list[str]:
    texts = [token.encode() for token in tokens]
    return ["".join(tokens[id] for id in sentence) for sentence in sentences(list(range(len(texts))), texts)]


def test_a_blank_in_one_token_with_the_next_word_goes_with_it() -> None:
    assert pieces(["Go", ".", " He", " went", "!", "\n"]) == ["Go.", " He went!\n"]


# ---- spans


WORDS = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]


def test_what_figure_2_of_t5_shows_is_read_and_written() -> None:
    ids, x = list(range(11)), 12
    read, written = with_gaps(ids, [(2, 4), (8, 9)], x)
    names = [*WORDS, "", "<X>", "<Y>", "<Z>"]
    assert " ".join(names[id] for id in read) == "Thank you <X> me to your party <Y> week ."
    assert " ".join(names[id] for id in written) == "<X> for inviting <Y> last <Z>"
    objective = Span(share=0.25, span_length=1.5)
    drawn = [objective.damage(ids, SPEC._replace(vocab_size=11), torch.Generator().manual_seed(n)) for n in range(999)]
    assert (ids, read, written) in drawn
    batch = objective.shown([drawn[drawn.index((ids, read, written))]], 11, SPEC._replace(vocab_size=11))
    assert batch.tokens.tolist() == [[11, *written]]
    assert batch.targets.tolist() == [[*written, 11]]  # and then the symbol for the end, T5's </s>


@pytest.mark.parametrize("settings", [{}, {"share": 0.5, "span_length": 1}, {"share": 0.9}, {"span_length": 10}])
def test_spans_are_as_many_for_texts_of_one_length_and_what_was_written_fills_them(settings: dict[str, Any]) -> None:
    objective = Span(**settings)
    for size in range(1, 80):
        hidden, spans = objective.counts(size)
        assert hidden == max(1, min(round(objective.share * size), size - 1))
        for seed in range(5):
            clean, source, target = objective.damage(text(size, seed), SPEC, torch.Generator().manual_seed(seed))
            sentinels = [V + 1 + n for n in range(spans)]
            assert [id for id in source if id > V] == sentinels
            assert [id for id in target if id > V] == [*sentinels, V + 1 + spans]
            assert len(clean) - (len(source) - spans) == hidden
            assert all(a < V or b < V for a, b in pairwise(source))  # gaps do not touch
            assert objective.restored(source, [*target, END], SPEC) == clean
            assert (len(source) <= size, len(target) + 1) == (True, objective.sizes(size)[1])


def test_a_gap_may_stand_at_either_end_of_a_text() -> None:
    sources = [Span().damage(text(20, 0), SPEC, torch.Generator().manual_seed(n)).source for n in range(200)]
    assert {(source[0] > V, source[-1] > V) for source in sources} >= {(True, False), (False, True), (False, False)}


def test_more_gaps_than_sentinels_are_refused() -> None:
    with pytest.raises(SettingsError, match="are 333 gaps, and there are sentinels for 99; give a shorter --seq-len"):
        _ = Plan.of({"arch": "encdec", "objective": "span", "share": 0.33, "span_length": 1.0, "seq_len": 1010}).lengths


def test_what_is_written_is_put_where_it_belongs_whatever_is_written() -> None:
    span, source = Span(), [1, V + 1, 2, V + 2, 3]
    assert span.restored(source, [7, V + 2, 8, 9, V + 5, 4, V + 1], SPEC) == [1, 2, 8, 9, 3]
    assert span.source([1, GAP, 2, GAP, 3], span.fitted(SPEC)) == source


# ---- batches


@pytest.mark.parametrize("name", ["denoise", "span"])
def test_batches_have_one_shape_end_with_a_symbol_and_are_random_by_their_generator_alone(name: str) -> None:
    objective = objectives.load(name)()
    spec = objective.fitted(SPEC)
    windows = torch.randint(V, (40, 17), generator=torch.Generator().manual_seed(0))
    windows[0, 9:], windows[1, 1:] = -1, -1

    def batch(seed: int) -> Any:
        return objective.batch((windows,), spec, torch.Generator().manual_seed(seed))

    before, first, again = torch.get_rng_state(), batch(1), batch(1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(leaves(first), leaves(again), strict=True))
    assert not torch.equal(first.source, batch(2).source)
    assert len({tuple(t.shape for t in leaves(batch(seed))) for seed in range(20)}) == 1
    assert first.source.shape == (40, spec.lengths.source)
    assert first.targets.shape == (40, spec.lengths.target)
    for row, (fed, target) in enumerate(zip(first.tokens.tolist(), first.targets.tolist(), strict=True)):
        scored = [id for id in target if id != -1]
        if row == 1:
            assert scored == []  # nothing is left of a window that holds nothing
            continue
        assert scored[-1] == END
        assert fed[: len(scored)] == [END, *scored[:-1]]
        if name == "denoise":
            assert scored[:-1] == windows[row, 1:].tolist()[: len(scored) - 1]
    ends = (first.targets == END).long().argmax(1)[2:]
    assert len(ends.unique()) > 1 or name == "span"  # some are shorter, so that a short text is familiar


@pytest.mark.parametrize("name", ["denoise", "span"])
def test_the_damage_to_what_is_held_out_is_a_function_of_the_text(name: str) -> None:
    objective = objectives.load(name)()
    spec, ids = objective.fitted(SPEC), torch.tensor(text(1000, 3)).numpy()
    first = list(objective.held_out(ids, spec))
    torch.manual_seed(99)
    assert list(objective.held_out(ids, spec)) == first
    assert [id for some in first for piece in some for id in piece.clean] == ids.tolist()


@pytest.mark.parametrize("arch", ["seq2seq", "encdec"])
@pytest.mark.parametrize("copy", [False, True])
def test_the_symbols_that_are_asked_for_are_guessed_too(arch: str, copy: bool) -> None:
    for name, guessed in (("denoise", 1), ("span", 101)):
        plan = Plan.of({"arch": arch, "objective": name, "hidden_size": 16, "copy": copy})
        network: Any = plan.build(SPEC._replace(counts=torch.arange(V).numpy()))
        source = torch.randint(network.spec.input_size, (2, 9))
        out = network(torch.tensor([[END], [END]]), source=source).logits
        assert out.shape == (2, 1, V + guessed)
        shares = out.softmax(-1).mean((0, 1))
        if not copy:
            assert shares[V:].max() < 2 * shares[0]  # a symbol is as rare at first as a token that the text lacks
    assert Plan.of({"arch": arch, "objective": "continuation"}).objective.guessed == 0


Outcome = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("entrants", "units"),
    [
        ("seq2seq,seq2seq:objective=denoise", ("bits/byte, ", "bits/byte restored (infill 0.3 x 3)")),
        ("seq2seq:objective=span,seq2seq:objective=denoise", ("bits/missing byte", "bits/byte restored")),
        ("seq2seq:objective=denoise:noise=mask,seq2seq:objective=denoise", ("(mask 0.3)", "(infill 0.3 x 3)")),
        (
            "seq2seq:objective=denoise:span_length=5,seq2seq:objective=denoise",
            ("(infill 0.3 x 5)", "(infill 0.3 x 3)"),
        ),
        ("seq2seq:objective=span:share=0.3,seq2seq:objective=span", ("(span 0.3 x 3)", "(span 0.15 x 3)")),
    ],
)
def test_what_was_damaged_in_another_way_is_not_ranked(
    entrants: str, units: tuple[str, str], verses: Any, typed: Outcome
) -> None:
    code, _, why = typed("compare", verses, "--arch", entrants, "--steps", "5")
    assert code == 2
    assert "scores in different measures" in why
    assert all(unit in why for unit in units)


@pytest.mark.parametrize("objective", ["denoise", "span"])
def test_shares_of_different_tokens_are_not_ranked(objective: str, verses: Any, typed: Outcome) -> None:
    entrants = f"seq2seq:objective={objective}:tokenizer=char,seq2seq:objective={objective}:tokenizer=byte"
    code, _, why = typed("compare", verses, "--arch", entrants, "--steps", "1")
    assert code == 2
    assert "compare those of one tokenizer" in why


def test_a_sentinel_that_is_written_twice_loses_nothing() -> None:
    spec = Span().fitted(SPEC)
    assert Span().restored([0, V + 1, 1], [V + 1, 2, V + 2, 3, V + 1, 4], spec) == [0, 2, 4, 1]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"noise": "permute,rotate", "share": 0.5}, "--share is for --noise delete, infill, mask"),
        ({"noise": "mask", "span_length": 5.0}, "--span-length is for --noise infill"),
    ],
)
def test_settings_that_the_chosen_noises_do_not_have_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        objectives.load("denoise")(**settings)


def test_a_gap_has_room_for_no_more_than_is_ever_hidden() -> None:
    objective = objectives.load("denoise")(span_length=100.0)
    assert objective.fits(3, 2, Lengths.of_text(16))  # 0.3 of 16, and a symbol, for each gap
    assert not objective.fits(5, 2, Lengths.of_text(16))
