"""What fills a gap, with which share, and by which runs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_runs import train_on_verses
from texts import FOX

import charlm
from charlm.config import DataSettings
from charlm.errors import SettingsError
from charlm.inside.fill import Filled, fill, parse
from charlm.progress import result
from charlm.text.vocabulary import train_tokenizer
from charlm.writer import Writer

Typed = Callable[..., tuple[int, str, str]]
TEXT = "WICK:\nThe l[MASK]mp is out, t[MASK]e tide is in.\n"


def filled(writer: Writer, text: str, top: int = 5) -> Filled:
    return result(fill(writer, text, top))


@torch.no_grad()
def test_a_share_is_what_the_model_says_of_the_hidden_token(masked: Path) -> None:
    writer = charlm.load(masked)
    size = writer.tokenizer.vocab_size
    (gap,) = filled(writer, "The l[MASK]mp is out", top=1000).gaps
    ids = [*writer.tokenizer.encode("The l"), size, *writer.tokenizer.encode("mp is out")]
    shares = writer.model(torch.tensor([ids]))[0, 5].softmax(-1)
    assert len(gap.guesses) == size
    assert sum(guess.share for guess in gap.guesses) == pytest.approx(1)
    for guess in gap.guesses:
        (id,) = writer.tokenizer.encode(guess.text)
        assert guess.share == pytest.approx(float(shares[id]), rel=1e-4)
    assert gap.guesses == sorted(gap.guesses, key=lambda guess: -guess.share)


@torch.no_grad()
def test_a_share_is_that_of_the_whole_text_where_a_model_reads_from_left_to_right(parrot: Path) -> None:
    """By scoring the text with each token in the gap, one by one."""
    writer = charlm.load(parrot)
    (gap,) = filled(writer, "The l[MASK]mp is out", top=1000).gaps
    texts = [token.decode() for token in writer.tokenizer.tokens]
    nats = [result(writer.scoring(f"The l{text}mp is out")) for text in texts]
    expected = torch.tensor([-score.nats_per_token * score.tokens for score in nats]).softmax(0)
    assert gap.tried is None
    found = {guess.text: guess.share for guess in gap.guesses}
    np.testing.assert_allclose([found[text] for text in texts], expected, atol=1e-5)


@pytest.mark.parametrize("run", ["masked", "parrot"])
def test_several_gaps_and_gaps_of_several_tokens_are_filled(run: str, request: pytest.FixtureRequest) -> None:
    writer = charlm.load(request.getfixturevalue(run))
    assert filled(writer, TEXT).text == "WICK:\nThe lamp is out, the tide is in.\n"
    two = filled(writer, "PEG:\nTwo f[MASK]{2}ls in a puddle!", top=3)
    assert two == filled(writer, "PEG:\nTwo f[MASK][MASK]{1}ls in a puddle!", top=3)
    (gap,) = two.gaps
    assert (gap.tokens, gap.guesses[0].text) == (2, "oo")
    assert gap.tried is not None
    assert len(gap.guesses) == 3
    assert two.text == "PEG:\nTwo fools in a puddle!"


def test_a_gap_takes_the_best_guesses_before_it_for_granted(masked: Path) -> None:
    writer = charlm.load(masked)
    first, second = filled(writer, "The [MASK]am[MASK] is out, the tide", top=1).gaps
    between = f"The {first.guesses[0].text}am[MASK] is out, the tide"
    assert filled(writer, between, top=1).gaps == [second]


def test_a_long_text_is_read_around_the_gap_and_gaps_may_stand_at_its_ends(masked: Path, parrot: Path) -> None:
    long = "The lamp is out, the tide is in, and I am wet to the knee.\n" * 4
    for run in (masked, parrot):
        writer = charlm.load(run)
        for text in (f"{long}The l[MASK]mp is out. {long}", f"[MASK]{long}", f"{long}[MASK]", "[MASK]"):
            assert len(filled(writer, text).text) == len(text) - len("[MASK]") + 1
    assert filled(charlm.load(masked), f"{long}The l[MASK]mp is out, {long}").text == f"{long}The lamp is out, {long}"


def test_a_space_before_a_gap_belongs_to_it_where_it_does_in_tokens(tmp_path: Path) -> None:
    train_on_verses(tmp_path, arch="lstm", tokenizer="bytebpe", vocab_size=400, steps=150)
    writer = charlm.load(tmp_path / "run")
    told = filled(writer, "The lamp [MASK] out, the", top=3)
    assert told.text == "The lamp is out, the"
    assert told.gaps[0].guesses[0].text == " is"


def test_runs_of_blanks_in_a_vocabulary_of_words_are_no_blanks_before_words() -> None:
    tokenizer = result(train_tokenizer(DataSettings(tokenizer="word"), lambda: iter(["the  lamp  is  out\n" * 9])))
    assert b"  " in tokenizer.tokens
    ids, ((place, size, *_),) = parse(tokenizer, "the [MASK] is")
    assert (tokenizer.decode(ids[:place].tolist()), size) == ("the ", 1)


def test_too_many_candidates_are_those_that_the_text_before_suggests(
    parrot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.inside.candidates.WORK", 200)
    (gap,) = filled(charlm.load(parrot), "The l[MASK]mp is out").gaps
    assert gap.tried == 20  # of texts of ten tokens
    assert gap.guesses[0].text == "a"


def test_gaps_are_filled_from_the_command_line_and_from_a_pipe(
    masked: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = typed("fill", masked, TEXT, "--top", "2")
    assert code == 0
    assert out.startswith("WICK:\nThe lamp is out, the tide is in.\n")
    assert "gap 2, 1 token" in out
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT.encode()), isatty=lambda: False))
    code, out, _ = typed("fill", masked, "-", "--json", "--top", "2")
    assert code == 0
    told = json.loads(out)
    assert told["text"] == "WICK:\nThe lamp is out, the tide is in.\n"
    assert [gap["guesses"][0]["text"] for gap in told["gaps"]] == ["a", "h"]
    assert all(len(gap["guesses"]) == 2 for gap in told["gaps"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["no gap"], "the text has no gap; write [MASK] where a token is wanted"),
        (["a[MASK]{0}"], "a gap must have from 1 to 64 tokens, got 0"),
        (["a[MASK]{60}[MASK]{5}"], "a gap must have from 1 to 64 tokens, got 65"),
        (["a[MASK]{33}"], "a gap has 33 tokens and this run reads 32 at once"),
        (["a", "b[MASK]", "c"], "one run and one text, got 4"),
        (["\u2603[MASK]"], "the vocabulary lacks"),
    ],
)
def test_what_is_no_text_with_gaps_is_refused(words: list[str], why: str, masked: Path, typed: Typed) -> None:
    code, out, err = typed("fill", masked, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert why in err


def test_runs_that_fill_no_gaps_name_the_command_that_they_are_for(
    verses: Path, translator: Path, typed: Typed
) -> None:
    sizes = ["--layers", "1", "--hidden-size", "16", "--steps", "1", "--quiet"]
    assert typed("train", verses, "--arch", "encdec", *sizes, "--out", "encdec")[0] == 0
    for run, why in (
        ("encdec", "not to fill gaps: charlm sample does"),
        (translator, "charlm translate"),
    ):
        code, out, err = typed("fill", run, "a[MASK]")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert why in err


FOXES = "the quick br[MASK] fox jumps"


@pytest.mark.parametrize(("run", "place"), [("restorer", 0), ("filler", 1)])
def test_a_run_that_writes_gives_shares_by_what_it_would_write(
    run: str, place: int, request: pytest.FixtureRequest
) -> None:
    """In proportion to the probability of the whole of it, given the text with its gap."""
    writer = charlm.load(request.getfixturevalue(run))
    encode, size = (lambda text: writer.tokenizer.encode(text).tolist()), writer.tokenizer.vocab_size
    (gap,) = filled(writer, "quick br[MASK] fox", top=60).gaps
    source = torch.tensor([[*encode("quick br"), size + 1, *encode(" fox")]])
    around = [[size, *encode("quick br")], [*encode(" fox"), size]] if place == 0 else [[size, size + 1], [size + 2]]
    logprobs = []
    for guess in gap.guesses[:8]:
        written = torch.tensor([[*around[0], *encode(guess.text), *around[1]]])
        each = (
            writer.model(written[:, :-1], source=source).logits.double().log_softmax(-1).gather(2, written[:, 1:, None])
        )
        logprobs.append(each[0, len(around[0]) - 1 :].sum())
    shares = torch.tensor([guess.share for guess in gap.guesses[:8]], dtype=torch.double)
    torch.testing.assert_close((shares / shares[0]).log(), torch.stack(logprobs) - logprobs[0], atol=1e-4, rtol=1e-4)
    assert sum(guess.share for guess in gap.guesses) <= 1 + 1e-9
    assert len({guess.text for guess in gap.guesses}) == len(gap.guesses)
    assert len({len(guess.text) for guess in gap.guesses}) > 2


def test_a_run_that_writes_knows_how_long_a_gap_is_and_a_count_binds_it(restorer: Path, filler: Path) -> None:
    for run in (restorer, filler):
        writer = charlm.load(run)
        for typed_gap, lengths in (("[MASK]{2}", {2}), ("[MASK][MASK]", {2}), ("[MASK]{1}", {1})):
            (gap,) = filled(writer, FOXES.replace("[MASK]", typed_gap), top=9).gaps
            assert gap.tokens in lengths
            assert {len(guess.text) for guess in gap.guesses} == lengths
    told = filled(charlm.load(restorer), "quick br[MASK] fox ju[MASK] over")
    assert told.text == "quick brown fox jumps over"
    assert [gap.tokens for gap in told.gaps] == [None, None]


def test_a_run_that_writes_reads_a_long_text_around_the_gap(restorer: Path, filler: Path) -> None:
    for run in (restorer, filler):
        writer = charlm.load(run)
        for text in (
            f"{FOX * 9}quick br[MASK]{{2}} fox{FOX * 9}",
            f"[MASK]{{2}}{FOX}",
            f"{FOX}[MASK]{{2}}",
            "[MASK]{2}",
        ):
            told = filled(writer, text).text
            before, _, after = text.partition("[MASK]{2}")
            assert told.startswith(before)
            assert told.endswith(after)
            assert len(told) == len(before) + 2 + len(after)


def test_a_run_that_writes_fills_from_a_pipe_and_refuses_what_it_never_met(
    restorer: Path, filler: Path, verses: Path, typed: Typed, heard: Callable[[str], None]
) -> None:
    heard("quick br[MASK] fox jumps")
    code, out, _ = typed("fill", restorer, "-", "--json", "--top", "2")
    assert code == 0
    told = json.loads(out)
    assert told["text"] == "quick brown fox jumps"
    assert told["gaps"][0]["tokens"] is None
    assert len(told["gaps"][0]["guesses"]) == 2
    code, out, _ = typed("fill", restorer, "quick br[MASK] fox")
    assert (code, "gap 1, any number of tokens" in out) == (0, True)
    small = ["--arch", "seq2seq", "--hidden-size", "8", "--steps", "1", "--quiet", "--objective", "denoise"]
    assert typed("train", verses, *small, "--noise", "permute,rotate", "--out", "moved")[0] == 0
    assert typed("train", verses, *small, "--noise", "mask", "--out", "hidden")[0] == 0
    for run, text, why in (
        ("moved", "a[MASK]b", "in which nothing is masked: charlm restore undoes it"),
        (restorer, "a[MASK]{60}b", "a gap has 60 tokens and this run writes 24 at once"),
        (filler, "a[MASK]{9}b", "a gap has 9 tokens and this run writes 5 at once"),
    ):
        code, out, err = typed("fill", run, text)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert why in err
    told = json.loads(typed("fill", "hidden", "the l[MASK]mp [MASK]{2}", "--json")[1])
    assert [gap["tokens"] for gap in told["gaps"]] == [1, 2]


VIEWS = {
    "sample": [],
    "explain": ["--prompt", "a"],
    "lens": ["--text", "lamp"],
    "neurons": ["--text", "lamp"],
    "choose": ["--prompt", "a", "--choice", "b", "--choice", "c"],
    "context": [],
    "novelty": [],
    "experts": [],
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_of_a_text_from_left_to_right_refuse_an_encoder_in_one_line(
    view: str, masked: Path, typed: Typed
) -> None:
    code, out, err = typed(view, masked, *VIEWS[view])
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "this run was trained with --objective masked; use charlm fill" in err


def test_an_encoder_neither_compresses_nor_translates(masked: Path, verses: Path, typed: Typed) -> None:
    code, _, err = typed("compress", masked, verses)
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = typed("translate", masked, "--text", "a")
    assert (code, err.count("\n")) == (2, 1)


def test_attention_of_an_encoder_goes_both_ways(masked: Path, typed: Typed) -> None:
    code, out, _ = typed("attend", masked, "--text", "The lamp is out", "--layer", "1", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["both_ways"]
    assert [len(row) for row in told["weights"]] == [15] * 15
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in told["weights"])
    assert sum(told["weights"][0][1:]) > 0.1
    assert "on both sides of it" in typed("attend", masked, "--text", "The lamp is out")[1]
    code, _, err = typed("attend", masked, "--text", "a" * 33)
    assert code == 2
    assert "the text has 33 tokens and the window of this run holds 32" in err


def test_what_parts_of_an_encoder_are_worth(masked: Path, typed: Typed) -> None:
    told = json.loads(typed("ablate", masked, "--json", "--max-bytes", "300")[1])
    assert told["nats_per_masked_token"] > 0
    places = {part["place"]: part["lost"] for part in told["parts"] if part["name"] == "whole"}
    assert places["layer 1"] > 0.1
    assert {"layer 1 attention", "layer 2 feed-forward"} <= places.keys()


@torch.no_grad()
def test_a_pseudo_log_likelihood_hides_each_token_in_turn_and_says_what_it_is(masked: Path, typed: Typed) -> None:
    writer, text = charlm.load(masked), "The lamp is out."
    ids = torch.from_numpy(writer.tokenizer.encode(text))
    rows = ids.repeat(len(ids), 1).fill_diagonal_(writer.tokenizer.vocab_size)
    logprobs = writer.model(rows).log_softmax(-1)[range(len(ids)), range(len(ids)), ids]
    Path("text.txt").write_text(text)
    told = json.loads(typed("score", masked, "text.txt", "--json")[1])
    assert "bits_per_byte" not in told
    assert told["pseudo_bits_per_byte"] == pytest.approx(float(-logprobs.mean() / np.log(2)), rel=1e-4)
    np.testing.assert_allclose(told["bits"], -logprobs / np.log(2), atol=1e-3)
    code, out, _ = typed("score", masked, "text.txt")
    assert code == 0
    assert "pseudo-bits per byte" in out
    assert "a pseudo-log-likelihood: each token was hidden alone, and guessed from both sides" in out


def test_a_pseudo_log_likelihood_is_no_likelihood(masked: Path, parrot: Path, typed: Typed) -> None:
    Path("text.txt").write_text("The lamp is out. " * 5)  # longer than the window, too
    assert typed("score", masked, "text.txt")[0] == 0
    code, _, err = typed("score", masked, "text.txt", "--diff", parrot)
    assert code == 2
    assert "pseudo-bits per byte and" in err
    with pytest.raises(SettingsError, match="use charlm fill"):
        result(charlm.load(masked).scoring("a"))
