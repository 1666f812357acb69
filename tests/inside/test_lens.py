"""`charlm lens` shows what a model would guess after each of its layers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from charlm import archs
from charlm.errors import CharlmError, SettingsError
from charlm.inside.lens import Layer, Lens, lens
from charlm.model import Encoder, Network, TokenVectors
from charlm.progress import result
from charlm.text.tokenizers import ByteTokenizer
from charlm.views.lens import GuessTable
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]

STACKS = {
    "transformer": ["embedding", "layer 1", "layer 2"],
    "encdec": ["embedding", "decoder 1", "decoder 2"],
    "seq2seq": ["decoder 1", "decoder 2"],
    "lstm": ["layer 1", "layer 2"],
    "lstmcell": ["layer 1", "layer 2"],
    "gru": ["layer 1", "layer 2"],
    "rnn": ["layer 1", "layer 2"],
}


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def drawn(view: GuessTable, width: int = 80) -> list[str]:
    console = Console(file=StringIO(), width=width, record=True)
    console.print(view)
    return [line.rstrip() for line in console.export_text().split("\n")]


@pytest.mark.parametrize("arch", archs.names())
@torch.no_grad()
def test_every_network_shows_its_layers_the_last_of_which_are_its_own_vectors_or_says_why_not(
    build: Build, arch: str
) -> None:
    model = build(arch).model
    tokens = torch.randint(12, (2, 7), generator=torch.Generator().manual_seed(0))
    if type(model).hidden_states is Network.hidden_states:
        with pytest.raises(SettingsError, match="does not show what each of its layers says"):
            model.hidden_states(tokens)
        return
    *_, last = states = list(model.hidden_states(tokens).values())
    if isinstance(model, Encoder):
        own = model.encode(tokens)
    else:
        own = model.embed(tokens) if isinstance(model, TokenVectors) else model.features(tokens, model.start(2)).hidden
    close(last, own)
    assert all(layer.shape == own.shape for layer in states)
    assert all(not torch.allclose(layer, own, atol=1e-3) for layer in states[:-1])


@pytest.mark.parametrize("arch", STACKS)
def test_the_last_row_is_what_the_model_itself_guesses_and_pays(build: Build, arch: str) -> None:
    writer, text = build(arch), "abc (d"
    shown = lens(writer, text)
    assert [layer.name for layer in shown.layers] == STACKS[arch]
    last = shown.layers[-1]
    assert last.bits_per_byte == pytest.approx(result(writer.scoring(text)).bits_per_byte, rel=1e-4)
    assert last.divergence == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        best = writer.model(torch.from_numpy(writer.tokenizer.encode("\n" + text))[None]).logits[0].softmax(-1).max(-1)
    assert last.probabilities == pytest.approx(best.values.tolist(), rel=1e-4)
    assert "".join(last.guesses) == writer.tokenizer.decode(best.indices.tolist())
    assert ("".join(shown.tokens), "".join(shown.following)) == ("\n" + text, text)
    assert all(layer.divergence > 0.001 for layer in shown.layers[:-1])


@pytest.mark.parametrize("norm_place", ["pre", "post"])
@torch.no_grad()
def test_the_embedding_and_the_first_layer_are_those_of_shallower_transformers(build: Build, norm_place: str) -> None:
    """With blocks taken away the head reads what it reads through the lens."""
    model, tokens = build("transformer", norm_place=norm_place).model, torch.arange(9)[None]
    states = list(model.hidden_states(tokens).values())
    for depth in (1, 0):
        model.blocks = model.blocks[:depth]
        start = model.start(1)
        hidden = model.advance(tokens, start._replace(layers=start.layers[:depth])).hidden
        close(states[depth], hidden)


@pytest.mark.parametrize("arch", ["lstm", "lstmcell", "gru", "rnn"])
@torch.no_grad()
def test_the_first_of_two_recurrent_layers_is_a_model_of_one(build: Build, arch: str) -> None:
    deep, flat = build(arch).model, build(arch, layers=1).model
    names = flat.state_dict().keys()
    flat.load_state_dict({name: weight for name, weight in deep.state_dict().items() if name in names})
    tokens = torch.arange(12).view(2, 6)
    close(deep.hidden_states(tokens)["layer 1"], flat.features(tokens, flat.start(2)).hidden)


@pytest.mark.parametrize("options", [{"input_feeding": True}, {"attention": "none"}, {"cell": "gru"}])
@torch.no_grad()
def test_a_decoders_last_layer_is_what_it_writes_for_a_source(build: Build, options: dict[str, object]) -> None:
    model, tokens, source = build("seq2seq", **options).model, torch.arange(10).view(2, 5), torch.arange(8).view(2, 4)
    states = model.hidden_states(tokens, source)
    close(states["decoder 2"], model.features(tokens, model.read(source)).hidden)


@torch.no_grad()
def test_a_tied_recurrent_model_reads_its_embedding_too(build: Build) -> None:
    model, tokens = build("gru", tied=True).model, torch.arange(5)[None]
    assert torch.equal(model.hidden_states(tokens)["embedding"], model.embed(tokens))


def test_a_guess_is_right_if_it_is_the_token_that_came_and_not_if_it_only_looks_so(build: Build) -> None:
    """The two bytes of "é" are both shown as �."""
    writer = build("lstm", tokenizer=ByteTokenizer())
    with torch.no_grad():
        writer.model.head.bias[0xA9] = 100.0
    shown = lens(writer, "é")
    assert shown.following == ["�", "�"]
    for layer in shown.layers:
        assert (layer.guesses, layer.right) == (["�"] * 3, [False, True, False])


def test_divergence_and_cost_are_those_of_the_definitions(build: Build) -> None:
    writer, text = build("transformer"), "abcde"
    ids = torch.from_numpy(writer.tokenizer.encode("\n" + text))
    with torch.no_grad():
        states = writer.model.hidden_states(ids[None])
        shares = [writer.model.head(vectors[0]).double().log_softmax(-1) for vectors in states.values()]
    for layer, share in zip(lens(writer, text).layers, shares, strict=True):
        divergence = F.kl_div(share, shares[-1], log_target=True, reduction="batchmean") / math.log(2)
        assert layer.divergence == pytest.approx(float(divergence), abs=1e-5)
        nats = F.nll_loss(share[:-1], ids[1:], reduction="mean")  # a token is a byte
        assert layer.bits_per_byte == pytest.approx(float(nats) / math.log(2), rel=1e-4)


@pytest.mark.parametrize(
    ("arch", "given", "message"),
    [
        ("transformer", {"text": ""}, "the text is empty"),
        ("transformer", {"text": "a" * 16}, "17 tokens and the window of this run holds 16"),
        ("transformer", {"text": "ab", "source": "c"}, "leave --source out"),
        ("transformer", {"text": "xyz"}, "the vocabulary lacks 'x'"),
        ("encdec", {"text": "a" * 8}, "9 tokens and the window of this run holds 8"),
        ("seq2seq", {"text": "ab", "source": "c" * 9}, "9 tokens to read and 3 to write"),
        ("lstm", {"text": "ab", "source": "c"}, "leave --source out"),
        ("lstm", {"text": "a" * 10_000}, "fewer than 10,000 tokens, got 10,000"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_can(
    build: Build, arch: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(CharlmError) as refusal:
        lens(build(arch), **given)
    assert message in str(refusal.value)


def test_a_model_of_one_layer_has_nothing_before_it(build: Build) -> None:
    with pytest.raises(SettingsError, match="has one layer, whose guesses are the model's own; a lens needs"):
        lens(build("lstm", layers=1), "abc")


SHOWN = Lens(
    ["\n", "The", " lamp"],
    ["The", " lamp"],
    [
        Layer("embedding", ["a", "é", " "], [False] * 3, [0.1, 0.5, 1.0], 2.5, 1.25),
        Layer("layer 1", ["The", "x", "y"], [True, False, False], [1.0] * 3, 1, 0),
    ],
)


def test_the_table_has_a_row_for_each_layer_between_what_was_read_and_what_came() -> None:
    lines = drawn(GuessTable(SHOWN))
    assert lines[1] == "a bar below is the probability"
    assert lines[3:9] == [
        "     read ↵     The   ·lamp",
        "embedding a     é     ·",
        "          ▂▂▂▂▂ ▅▅▅▅▅ █████",
        "  layer 1 The   x     y",
        "          █████ █████ █████",
        "     came The   ·lamp",
    ]
    assert lines[10].split("  ")[-2:] == [" bits per byte", "KL to the last layer, bits per token"]
    assert [line.split()[-2:] for line in lines[11:13]] == [["2.500", "1.250"], ["1.000", "0.000"]]


def test_with_colours_the_redder_is_the_more_probable_and_right_guesses_are_underlined() -> None:
    console = Console(file=StringIO(), width=80, record=True, force_terminal=True, color_system="truecolor")
    console.no_color = False
    console.print(GuessTable(SHOWN))
    page = console.export_html(inline_styles=True)
    assert "background-color: #b2182b; text-decoration: underline" in page
    assert page.count('underline"') == 1
    assert "▂" not in page


def test_a_wide_table_is_cut_into_panels_that_fit(build: Build) -> None:
    text = "abcde (ab) AB\n" * 8
    lines = drawn(GuessTable(lens(build("lstm"), text)), width=60)
    assert max(map(len, lines)) <= 60
    read = "".join("".join(line.split()[1:]) for line in lines if line.lstrip().startswith("read"))
    assert read == "↵" + text.replace("\n", "↵").replace(" ", "·")


def test_the_command_draws_prints_json_and_saves_pictures(typed: Typed, looking: dict[str, Path]) -> None:
    code, out, _ = typed("lens", looking["transformer"], "--text", "The lamp\n")
    assert code == 0
    assert "read ↵ T h e · l a m p ↵" in out
    assert "bits per byte" in out
    saved = ["--json", "--html", "a.html", "--svg", "a.svg"]
    code, out, err = typed("lens", looking["transformer"], "--text", "is out", *saved)
    shown = json.loads(out)
    assert set(shown) == {"tokens", "following", "layers"}
    assert set(shown["layers"][0]) == {*("name", "guesses", "right", "probabilities", "bits_per_byte", "divergence")}
    assert "saved a.html" in err
    assert "background-color: #" in Path("a.html").read_text(encoding="utf-8")
    assert Path("a.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_command_shows_how_a_target_is_written_for_a_source(typed: Typed, translator: Path) -> None:
    code, out, err = typed("lens", translator, "--text", "ba", "--source", "ab")
    assert (code, out, err.count("\n")) == (2, "", 1)  # it has one layer
    assert "has one layer" in err
    assert "give what it reads with --source TEXT" in typed("lens", translator, "--text", "ba")[2]


def test_the_command_refuses_in_one_line(typed: Typed, trained: Path) -> None:
    code, out, err = typed("lens", trained, "--text", "PEG")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has one layer" in err
