"""`charlm attend` shows the weights that the model computes with, and nothing where a model cannot look."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from threading import Thread

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from small_runs import LANGUAGE_MODELS
from torch import Tensor

import charlm
from charlm.archs._attention import Attention
from charlm.errors import CharlmError, SettingsError
from charlm.inside.attend import AllHeads, Attended, attend, attend_all
from charlm.model import PAD, LanguageModel
from charlm.views.attend import AttentionMap, Thumbnails
from charlm.views.pictures import as_html, as_svg
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]

KINDS = [
    {},
    {"positions": "learned", "norm_place": "post", "norm": "layer", "qk_norm": False, "ngram": 1},
    {"positions": "sinusoidal", "bias": True, "ngram": 2, "heads": 4},
    {"positions": "none", "activation": "swiglu", "heads": 1},
]


def tokens(length: int, seed: int = 0) -> Tensor:
    return torch.randint(12, (length,), generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def drawn(found: Attended | AllHeads, width: int = 100) -> list[str]:
    console = Console(file=StringIO(), width=width, record=True)
    console.print(AttentionMap(found) if isinstance(found, Attended) else Thumbnails(found))
    return console.export_text().split("\n")


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_transformers_weights_are_those_that_its_fused_attention_used(
    build: Build, kind: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the identity for values, the fused function returns the weights themselves."""
    model, fused, used = build("transformer", **kind).model, F.scaled_dot_product_attention, []

    def spy(q: Tensor, k: Tensor, v: Tensor, *more: object, **named: object) -> Tensor:
        used.append(fused(q, k, torch.eye(k.size(2)).expand(*k.shape[:2], -1, -1), *more, **named)[0])
        return fused(q, k, v, *more, **named)

    text = tokens(13)
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    model(text[None])
    monkeypatch.undo()
    weights = model.attention_weights(text)
    close(weights, torch.stack(used))
    assert weights.shape == (2, kind.get("heads", 2), 13, 13)
    close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert (weights.triu(1) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_values_times_a_transformers_weights_are_what_its_attention_says(build: Build, kind: dict[str, object]) -> None:
    model, heard = build("transformer", **kind).model, []
    modules = [m for m in model.modules() if isinstance(m, Attention)]
    for module in modules:
        module.register_forward_hook(lambda _, given, said: heard.append((given[1].values, said)))
    text = tokens(16)
    model(text[None])
    said = list(heard)
    for module, weights, (values, y) in zip(modules, model.attention_weights(text), said, strict=True):
        close(module.out((weights @ values).transpose(1, 2).flatten(2)), y)


@pytest.mark.parametrize("kind", ["additive", "dot", "general"])
@torch.no_grad()
def test_the_source_times_a_decoders_weights_is_the_context_that_it_gets(build: Build, kind: str) -> None:
    model, heard = build("seq2seq", attention=kind).model, []
    model.get_submodule("attention").register_forward_hook(
        lambda _, given, said: heard.append((given[1].annotations, said[0]))
    )
    text, source = tokens(8), tokens(6, seed=1)
    model(text[None], source=source[None])
    weights = model.attention_weights(text, source)
    assert weights.shape == (1, 1, 8, 6)
    close(weights.sum(-1), torch.ones(1, 1, 8))
    close(weights[0, 0] @ heard[0][0][0], heard[0][1][0])


@torch.no_grad()
def test_padding_of_a_source_is_not_looked_at(build: Build) -> None:
    model, text, source = build("seq2seq").model, tokens(5), tokens(4, seed=1)
    padded = model.attention_weights(text, F.pad(source, (0, 3), value=PAD))
    assert (padded[..., 4:] == 0).all()
    close(padded[..., :4], model.attention_weights(text, source))


def test_a_place_in_a_text_of_its_own_looks_at_itself_and_what_is_before(build: Build) -> None:
    found = attend(build("transformer"), "abcde (a)")
    assert found.rows == found.columns == list("abcde (a)")
    assert [len(row) for row in found.weights] == list(range(1, 10))
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in found.weights)


def test_without_a_source_the_first_half_is_read_and_the_second_written(build: Build) -> None:
    found = attend(build("seq2seq"), "abcdeAB")
    assert (found.columns, found.rows) == (list("abc"), list("deAB"))
    given = attend(build("seq2seq"), "deAB", source="abc")
    assert given == found


def test_the_last_layer_and_the_mean_of_its_heads_unless_told_otherwise(build: Build) -> None:
    writer, text = build("transformer"), "abc\nde"
    weights = writer.model.attention_weights(torch.from_numpy(writer.tokenizer.encode(text)))
    assert attend(writer, text).weights[-1] == pytest.approx(weights[1].mean(0)[-1].tolist())
    assert attend(writer, text, layer=1, head=2).weights[-1] == pytest.approx(weights[0, 1, -1].tolist())
    assert (attend(writer, text).layer, attend(writer, text).head) == (2, None)


@pytest.mark.parametrize("arch", LANGUAGE_MODELS)
def test_every_architecture_draws_or_says_why_not(build: Build, arch: str) -> None:
    if type(build(arch).model).attention_weights is not LanguageModel.attention_weights:
        assert len(drawn(attend(build(arch), "abcde"))) > 3
        return
    with pytest.raises(SettingsError, match=r"has no attention: .* in its state; charlm neurons"):
        attend(build(arch), "abcde")


@pytest.mark.parametrize(
    ("arch", "given", "message"),
    [
        ("transformer", {"text": "abc", "layer": 3}, "--layer must be from 1 to 2, got 3"),
        ("transformer", {"text": "abc", "layer": 0}, "--layer must be from 1 to 2, got 0"),
        ("transformer", {"text": "abc", "head": 5}, "--head must be from 1 to 2, got 5"),
        ("transformer", {"text": "abc", "source": "abc"}, "leave --source out"),
        ("transformer", {"text": "a" * 17}, "17 tokens and the window of this run holds 16"),
        ("transformer", {"text": ""}, "the text is empty"),
        ("transformer", {"text": "xyz"}, "the vocabulary lacks 'x'"),
        ("seq2seq", {"text": "abc", "source": ""}, "the source is empty"),
        ("seq2seq", {"text": "abc", "head": 2}, "--head must be 1: there is only one, got 2"),
        (
            "seq2seq",
            {"text": "a"},
            "0 tokens to read and 1 to write were given; this run reads 1 to 8 and writes 1 to 8",
        ),
        ("seq2seq", {"text": "a" * 9, "source": "b"}, "1 tokens to read and 9 to write"),
        ("seq2seq", {"text": "a", "source": "b" * 9}, "9 tokens to read and 1 to write"),
        ("lstm", {"text": "abc"}, "LSTM has no attention"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_can(
    build: Build, arch: str, given: dict[str, object], message: str
) -> None:
    with pytest.raises(CharlmError) as refusal:
        attend(build(arch), **given)
    assert message in str(refusal.value)


def test_a_decoder_without_attention_is_named_as_such(build: Build) -> None:
    with pytest.raises(SettingsError, match=r"--attention none: .* charlm neurons"):
        attend(build("seq2seq", attention="none"), "abcde")


def test_the_picture_names_tokens_on_both_sides_and_leaves_the_future_blank() -> None:
    found = Attended(1, 2, ["a", "\n", " "], ["a", "\n", " "], [[1.0], [0.25, 0.75], [0.001, 0.999, 0.0]])
    assert drawn(found)[3:7] == ["    a  ↵  ·", "a 100", "↵  25 75", "·    100   "]


def test_a_wide_picture_is_cut_into_panels_that_fit(build: Build) -> None:
    text = "abcde (ab) AB\n" * 10
    found = attend(build("transformer", seq_len=140), text)
    lines = drawn(found, width=60)
    assert max(map(len, lines)) <= 60
    assert sum(line.lstrip().startswith("abcde·(ab)·AB↵") for line in lines) == 1  # the first panel's columns
    assert sum(line[:1] == "A" for line in lines) == 10 + 7 + 4  # a row stands only where it sees something


def test_long_tokens_stand_upright_above_their_columns() -> None:
    found = Attended(1, None, ["The", " lamp"], ["The", " lamp"], [[1.0], [0.5, 0.5]])
    assert drawn(found)[3:10] == [
        "           ·",
        "           l",
        "        T  a",
        "        h  m",
        "        e  p",
        "  The 100",
        "·lamp  50 50",
    ]


def test_the_command_draws_prints_json_and_saves_pictures(typed: Typed, looking: dict[str, Path]) -> None:
    code, out, _ = typed("attend", looking["transformer"], "--text", "The lamp\n")
    assert code == 0
    assert "attention of layer 4, head 1; numbers are percent" in out  # its only one
    assert "T  h  e  ·  l  a  m  p  ↵" in out
    saved = ["--json", "--html", "a.html", "--svg", "a.svg"]
    code, out, err = typed("attend", looking["seq2seq"], "--text", "is out", "--source", "The lamp", *saved)
    assert code == 0
    assert set(json.loads(out)) == {"layer", "head", "rows", "columns", "weights", "of_pair", "both_ways"}
    assert "saved a.html" in err
    assert "background-color: #" in Path("a.html").read_text(encoding="utf-8")
    assert Path("a.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_command_saves_a_png(typed: Typed, looking: dict[str, Path]) -> None:
    pytest.importorskip("vl_convert")
    assert typed("attend", looking["transformer"], "--text", "The lamp", "--png", "a.png")[0] == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_refuses_in_one_line(typed: Typed, trained: Path) -> None:
    code, out, err = typed("attend", trained, "--text", "PEG")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "LSTM has no attention" in err
    assert typed("attend", trained)[0] == 2


@pytest.mark.parametrize("arch", ["transformer", "encdec", "seq2seq"])
def test_every_head_of_every_layer_is_what_the_model_computes(build: Build, arch: str) -> None:
    writer, ids = build(arch), tokens(8)
    heads = attend_all(writer, writer.tokenizer.decode(ids.tolist()))
    close(heads.weights, writer.model.attention_weights(ids))
    for layer in range(1, len(heads.weights) + 1):
        one = attend(writer, writer.tokenizer.decode(ids.tolist()), layer=layer, head=1)
        assert (one.rows, one.columns) == (heads.rows, heads.columns)
        for row, whole in zip(one.weights, heads.weights[layer - 1, 0].tolist(), strict=True):
            assert row == whole[: len(row)]
            assert not any(whole[len(row) :])


def all_heads(weights: Tensor) -> AllHeads:
    _, _, t, s = weights.shape
    return AllHeads(weights, ["a"] * t, ["b"] * s, causal=False, of_pair=False)


def test_thumbnails_stand_in_a_line_for_each_layer_two_rows_of_squares_in_one() -> None:
    weights = torch.zeros(2, 2, 3, 3)
    weights[0, 0] = torch.eye(3)
    weights[0, 1, 2, 0] = weights[1, 0, 0, 2] = 0.3  # of which the root is 0.55
    lines = [line.rstrip() for line in drawn(all_heads(weights), 70)]
    assert lines[0] == "attention of every head: 3 tokens, one a row, look at 3 columns"
    assert lines[2:8] == [
        "        head 1                    head 2",
        "layer 1 ██",
        "          █                       ▒",
        "",
        "layer 2   ▒",
        "",
    ]


def test_of_a_long_text_a_square_is_the_highest_weight_of_its_tokens() -> None:
    weights = torch.zeros(1, 1, 96, 96)
    weights[0, 0, 95, 50] = 0.7
    (squares,) = all_heads(weights).thumbnails(24)[0]
    assert squares.shape == (24, 24)
    assert squares[23, 12] == pytest.approx(0.7)
    assert (squares > 0).sum() == 1
    lines = drawn(all_heads(weights), 80)
    assert lines[1].startswith("a square is the highest weight of several tokens; --layer and --head")


def test_many_heads_stand_in_several_lines_that_fit() -> None:
    lines = drawn(all_heads(torch.rand(2, 20, 30, 30)), 60)
    assert max(map(len, lines)) <= 60
    assert [word for line in lines for word in line.split() if word.isdigit() and "head" in line[:16]][-1] == "20"
    assert sum(line.startswith("layer 1") for line in lines) == 4


def test_in_colours_a_square_is_half_a_character_and_in_a_picture_a_rectangle() -> None:
    weights = torch.zeros(1, 1, 2, 1)
    weights[0, 0, 0, 0] = 1.0
    assert (
        "color: #b2182b; text-decoration-color: #b2182b; background-color: #f7f7f7"
        in as_html(Thumbnails(all_heads(weights))).decode()
    )
    page = as_svg(Thumbnails(all_heads(weights))).decode()
    assert "▀" not in page
    assert page.count('height="12.3"') == 1


def test_the_command_draws_all_heads_and_prints_their_weights(typed: Typed, looking: dict[str, Path]) -> None:
    code, out, _ = typed("attend", looking["transformer"], "--all", "--text", "The lamp\n")
    assert code == 0
    assert [f"layer {n}" in out for n in (1, 4, 5)] == [True, True, False]
    code, out, err = typed("attend", looking["seq2seq"], "--all", "--text", "is out", "--json", "--svg", "a.svg")
    shown = json.loads(out)
    assert set(shown) == {"rows", "columns", "weights", "of_pair", "both_ways"}
    assert torch.tensor(shown["weights"]).shape == (1, 1, 3, 3)
    assert "saved a.svg" in err
    code, out, err = typed("attend", looking["transformer"], "--all", "--text", "The", "--head", "1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "leave out --layer and --head" in err


def test_weights_are_listed_for_json_alone(
    typed: Typed, looking: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long text they are many."""
    asked: list[AllHeads] = []
    listed = AllHeads.to_json
    monkeypatch.setattr(AllHeads, "to_json", lambda heads: asked.append(heads) or listed(heads))
    line = ["attend", looking["transformer"], "--all", "--text", "The lamp\n"]
    assert (typed(*line)[0], len(asked)) == (0, 0)
    assert (typed(*line, "--json")[0], len(asked)) == (0, 1)


def test_a_letter_and_its_marks_stand_upright_as_one_character() -> None:
    found = Attended(1, None, ["x"], ["किa", "e\u0301", "b" * 20], [[0.2, 0.3, 0.5]])
    assert [line.split() for line in drawn(found)[-6:-2]] == [["b"], ["b"], ["कि", "b"], ["a", "e\u0301", "…"]]


def test_what_another_thread_reads_meanwhile_is_not_looked_at(windowed: Path) -> None:
    writer = charlm.load(windowed)
    alone = attend_all(writer, "PEG: The")
    attention = next(module for module in writer.model.modules() if isinstance(module, Attention))

    def read_meanwhile(*_: object) -> None:
        hook.remove()
        other = Thread(target=writer.score, args=("SNUFF: We",))
        other.start()
        other.join()

    hook = attention.register_forward_pre_hook(read_meanwhile)
    assert torch.equal(attend_all(writer, "PEG: The").weights, alone.weights)
