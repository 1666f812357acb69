"""`charlm neurons` shows what recurrent units compute, and finds those that follow what it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from small_runs import LANGUAGE_MODELS
from torch import Tensor

from charlm.errors import CharlmError, SettingsError
from charlm.inside.neurons import FEATURES, Neurons, Unit, capital, excerpt, linelength, neurons
from charlm.model import LanguageModel
from charlm.views.neurons import Traces, lines
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]

GATES = {
    "lstm": ["input", "forget", "output", "cell", "hidden"],
    "lstmcell": ["input", "forget", "output", "cell", "hidden"],
    "gru": ["reset", "update", "hidden"],
    "rnn": ["hidden"],
}


def tokens(length: int) -> Tensor:
    return torch.randint(12, (length,), generator=torch.Generator().manual_seed(0))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def drawn(found: Neurons, width: int = 80, **how: object) -> list[str]:
    console = Console(file=StringIO(), width=width, record=True, **how)
    console.print(Traces(found))
    return console.export_text().split("\n")


@pytest.mark.parametrize("arch", GATES)
@torch.no_grad()
def test_the_traces_are_what_the_model_computes(build: Build, arch: str) -> None:
    model, text = build(arch, dropout=0.3).model, tokens(20)
    traces, out = model.traces(text), model.features(text[None], model.start(1))
    assert list(traces) == GATES[arch]
    assert all(values.shape == (2, 20, 16) for values in traces.values())
    close(traces["hidden"][-1], out.hidden[0])
    state = out.state if isinstance(out.state, tuple) else (out.state,)
    for name, last in zip(("hidden", "cell"), state, strict=False):
        close(traces[name][:, -1], last[0])  # of both layers
    for name in set(traces) - {"cell", "hidden"}:
        assert (traces[name] > 0).all()
        assert (traces[name] < 1).all()


@torch.no_grad()
def test_the_traces_of_a_seq2seq_are_its_decoders_over_several_windows(build: Build) -> None:
    model, text, heard = build("seq2seq").model, tokens(29), []
    model.get_submodule("decoder").register_forward_hook(lambda *call: heard.append(call[-1][0][0]))
    model.features(text[None], model.start(1))
    states = torch.cat(heard)
    close(model.traces(text)["hidden"][-1], states)


@pytest.mark.parametrize("arch", LANGUAGE_MODELS)
def test_every_architecture_has_traces_or_says_why_not(build: Build, arch: str) -> None:
    if type(build(arch).model).traces is not LanguageModel.traces:
        assert len(drawn(neurons(build(arch), "abcde"))) > 10
        return
    with pytest.raises(SettingsError, match=r"has no gates and cells: .*(charlm attend|no method traces)"):
        neurons(build(arch), "abcde")


@torch.no_grad()
def crafted(build: Build) -> Writer:
    """Of an LSTM of random weights, unit 7 of layer 1 opens at "(" and forgets at ")"."""
    writer = build("lstm", embedding_size=12, forget_bias=0.0)
    model = writer.model
    model.embed.weight.copy_(torch.eye(12))
    w, u, b_w, b_u = model.rnn.all_weights[0]
    opening, closing = writer.tokenizer.encode("()").tolist()
    for gate in range(4):  # input, forget, cell, output
        row = gate * 16 + 6
        w[row], u[row], b_w[row], b_u[row] = 0, 0, 0, 0
    w[6, opening], b_w[6] = 20, -10
    w[22, closing], b_w[22] = -20, 10
    b_w[38] = 3
    return writer


def test_a_unit_that_follows_brackets_is_found_first(build: Build) -> None:
    text = "ab (cde ab) ab cd (e) abc\nde (a b c) ab c d eeee (ab) cd\n" * 3
    found = neurons(crafted(build), text, find="bracket")
    first, *rest = found.units
    assert (first.layer, first.unit) == (1, 7)
    assert first.correlation == pytest.approx(1, abs=0.02)
    assert [abs(unit.correlation or 0) for unit in rest] == sorted(
        (abs(u.correlation or 0) for u in rest), reverse=True
    )
    assert abs(rest[0].correlation or 0) < 0.95
    assert "".join(found.tokens) == text
    inside = [c for c, value in zip(text, first.values, strict=True) if value > 0.5]
    assert "".join(inside) == "(cde ab(e(a b c(ab" * 3


def test_correlations_are_pearsons(build: Build) -> None:
    found = neurons(build("gru"), "aB\nabc AB\nb\n" * 4, find="linelength", top=3)
    for unit in found.units:
        pair = torch.tensor([unit.values, found.feature], dtype=torch.double)
        assert unit.correlation == pytest.approx(float(torch.corrcoef(pair)[0, 1]), abs=1e-6)


@pytest.mark.parametrize(
    ("feature", "text", "values"),
    [
        ("quote", 'a "b" c', "0011000"),
        ("quote", "a “b” c", "0011000"),
        ("quote", 'a "b\n\n"c"', "001110110"),
        ("bracket", "a(b[c]d)e", "011111100"),
        ("bracket", ")a(b)", "00110"),
        ("newline", "ab\n\nc", "01100"),
        ("capital", "Ab É", "1001"),
        ("linelength", "ab\n\ncde", "1200123"),
    ],
)
def test_features_of_a_text(feature: str, text: str, values: str) -> None:
    assert FEATURES[feature][0](text) == [float(value) for value in values]


def test_without_a_question_the_units_that_vary_most_are_shown(build: Build) -> None:
    writer = build("lstm")
    found = neurons(writer, "abcde AB\n", top=4)
    cells = writer.model.traces(torch.from_numpy(writer.tokenizer.encode("abcde AB\n")))["cell"].tanh()
    spread = cells.std(1, correction=0).flatten()
    assert (found.gate, len(found.units)) == ("cell", 4)
    assert {(u.layer - 1) * 16 + u.unit - 1 for u in found.units} == set(spread.topk(4).indices.tolist())


def test_a_unit_a_layer_and_a_gate_can_be_named(build: Build) -> None:
    writer = build("lstm")
    found = neurons(writer, "abc", layer=2, unit=16, gate="forget")
    expected = writer.model.traces(torch.from_numpy(writer.tokenizer.encode("abc")))["forget"][1, :, 15]
    assert [(u.layer, u.unit) for u in found.units] == [(2, 16)]
    assert found.units[0].values == pytest.approx(expected.tolist())
    assert {(u.layer, u.unit) for u in neurons(writer, "abc", unit=3).units} == {(1, 3), (2, 3)}
    assert {u.layer for u in neurons(writer, "abc", layer=1).units} == {1}


@pytest.mark.parametrize(
    ("arch", "given", "message"),
    [
        ("lstm", {"unit": 17}, "--unit must be from 1 to 16, got 17"),
        ("lstm", {"layer": 3}, "--layer must be from 1 to 2, got 3"),
        ("gru", {"gate": "cell"}, "--gate must be one of reset, update, hidden in this run, got 'cell'"),
        ("lstm", {"unit": 1, "find": "quote"}, "give one of them"),
        ("lstm", {"find": "quote"}, "--find quote needs a text in which 'inside quotation marks' varies"),
        ("lstm", {"text": ""}, "from 1 to 10,000 tokens, got 0"),
        ("lstm", {"text": "a" * 10_001}, "from 1 to 10,000 tokens, got 10,001"),
        ("lstm", {"text": "xyz"}, "the vocabulary lacks 'x'"),
        ("transformer", {}, "it remembers the tokens of its window; charlm attend shows where it looks"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_can(
    build: Build, arch: str, given: dict[str, object], message: str
) -> None:
    with pytest.raises(CharlmError) as refusal:
        neurons(build(arch), **{"text": "abcde", **given})
    assert message in str(refusal.value)
    if isinstance(refusal.value, SettingsError):
        assert refusal.value.field == next(iter(given), None)


def test_of_a_long_text_the_part_is_drawn_in_which_the_feature_changes_most() -> None:
    feature = [0.0] * 50 + [1.0, 0.0] * 10 + [0.0] * 30
    found = Neurons("cell", ["a"] * 100, "capital", feature, [])
    part = excerpt(found, 20)
    assert part in (slice(49, 69), slice(50, 70))
    assert excerpt(found._replace(feature=None), 20) == slice(0, 20)
    assert excerpt(found, 200) == slice(0, 200)


def test_values_are_colours_and_where_there_are_none_bars() -> None:
    found = Neurons("cell", list("ab\nc"), None, None, [Unit(1, 3, 0.5, [-1.0, 1.0, 0.0, -1.0])])
    assert drawn(found)[1:6] == ["", "layer 1, unit 3: from -1.00 to 1.00, correlation +0.50", "ab↵", "▁█▅", "c"]
    console = Console(
        file=StringIO(), width=60, record=True, force_terminal=True, color_system="truecolor", no_color=False
    )
    console.print(Traces(found))
    page = console.export_html(inline_styles=True)
    assert "background-color: #2166ac" in page  # the blue of -1
    assert "background-color: #b2182b" in page  # the red of 1
    assert "█" not in page


def test_long_lines_are_cut_at_the_width() -> None:
    found = Neurons("hidden", ["word "] * 30, None, None, [Unit(1, 1, None, [0.0] * 30)])
    lines = drawn(found, width=40)
    assert max(len(line) for line in lines[3:]) == 40


def test_the_command_draws_prints_json_and_saves_pictures(typed: Typed, trained: Path) -> None:
    text = "WICK:\nThe lamp is out, the tide is in.\n\nPEG:\nTwo fools!\n"
    code, out, _ = typed("neurons", trained, "--text", text, "--find", "linelength", "--top", "2")
    assert code == 0
    assert "what was looked for: characters since the line began" in out
    assert out.count("correlation") == 2
    code, out, err = typed(
        "neurons", trained, "--text", text, "--gate", "forget", "--json", "--html", "a.html", "--svg", "a.svg"
    )
    assert code == 0
    shown = json.loads(out)
    assert shown["gate"] == "forget"
    assert "".join(shown["tokens"]) == text
    assert len(shown["units"]) == 5
    assert "saved a.html" in err
    assert "background-color: #" in Path("a.html").read_text(encoding="utf-8")
    assert Path("a.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_command_saves_a_png(typed: Typed, trained: Path) -> None:
    pytest.importorskip("vl_convert")
    assert typed("neurons", trained, "--text", "WICK", "--png", "a.png")[0] == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_refuses_in_one_line(typed: Typed, trained: Path) -> None:
    code, out, err = typed("neurons", trained, "--text", "WICK", "--find", "quote")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert typed("neurons", trained, "--text", "WICK", "--find", "verbs")[0] == 2


def test_a_letter_and_its_marks_are_drawn_as_one_character_with_the_value_at_its_end() -> None:
    line, *_ = lines(["न", "ि", "a", "\n", "\u0301"], [0.1, 0.2, 0.3, 0.4, 0.5], 40)
    assert line == [("नि", 0.2), ("a", 0.3), ("↵", 0.4)]
    assert capital("E\u0301e\u0301") == [1, 1, 0, 0]
    assert linelength("e\u0301a\n") == [1, 1, 2, 0]
