"""`charlm ablate` switches off parts of a network, and shows how much worse it does without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import charlm
from charlm import archs
from charlm.archs._attention import Attention
from charlm.cli.ablate import Losses
from charlm.errors import SettingsError
from charlm.inside.ablate import Ablation, Loss, ablate
from charlm.inspection import Part
from charlm.model import Network
from charlm.progress import result
from charlm.score import Score
from charlm.text.corpus import Corpus
from charlm.text.store import Split
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]

TEXT = torch.randint(12, (2, 14), generator=torch.Generator().manual_seed(0))
SOURCE = torch.randint(12, (2, 7), generator=torch.Generator().manual_seed(1))


def logits(model: Any) -> Tensor:
    out = model(TEXT) if not hasattr(model, "encoder") else model(TEXT[:, :8], source=SOURCE)
    guesses: Tensor = out if isinstance(out, Tensor) else out.logits
    return guesses


def part(model: Network, place: str, name: str) -> Part:
    return next(part for part in model.parts() if (part.place, part.name) == (place, name))


def without(model: Network, place: str, name: str = "whole") -> Tensor:
    with part(model, place, name).off():
        return logits(model)


def zeroed(model: nn.Module, *weights: tuple[str, slice]) -> Tensor:
    """What the model says with these columns of weights, and these biases, set to zero."""
    other = torch.nn.Module.state_dict(model)
    kept = {name: other[name].clone() for name, _ in weights}
    for name, columns in weights:
        other[name][..., columns] = 0
    try:
        return logits(model)
    finally:
        model.load_state_dict(kept, strict=False)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("arch", archs.names())
@torch.no_grad()
def test_every_network_has_parts_that_matter_and_come_back_or_says_why_not(build: Build, arch: str) -> None:
    model = build(arch, layers=2).model
    if type(model).parts is Network.parts:
        with pytest.raises(SettingsError, match="does not say what it consists of"):
            model.parts()
        return
    whole, weights = logits(model), {name: w.clone() for name, w in model.state_dict().items()}
    parts = model.parts()
    assert len({(part.place, part.name) for part in parts}) == len(parts)
    for part in parts:
        assert hooks(model) == 0
        with part.off():
            assert not torch.equal(logits(model), whole), (part.place, part.name)
        with pytest.raises(KeyboardInterrupt), part.off():
            raise KeyboardInterrupt
    assert hooks(model) == 0
    assert all(torch.equal(weights[name], w) for name, w in model.state_dict().items())
    assert torch.equal(logits(model), whole)


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("transformer", {}),
        ("transformer", {"norm_place": "post", "bias": True}),
        ("encdec", {}),
        ("encdec", {"tied": False}),
    ],
)
@torch.no_grad()
def test_a_head_that_is_off_is_columns_of_zeros_where_heads_are_mixed(
    build: Build, arch: str, options: dict[str, object]
) -> None:
    model = build(arch, **options).model
    attentions = {name: m for name, m in model.named_modules() if isinstance(m, Attention)}
    heads = [part for part in model.parts() if part.name.startswith("head")]
    assert len(heads) == 2 * len(attentions) == (4 if arch == "transformer" else 12)
    by_hand = [
        zeroed(model, (f"{name}.out.weight", slice(8 * head, 8 * head + 8))) for name in attentions for head in (0, 1)
    ]
    for head, expected in zip(heads, by_hand, strict=True):
        with head.off():
            close(logits(model), expected)


@torch.no_grad()
def test_a_sublayer_and_a_block_that_are_off_add_nothing(build: Build) -> None:
    model = build("transformer", bias=True).model
    everything = slice(None)
    attention = [(f"blocks.1.attention.out.{name}", everything) for name in ("weight", "bias")]
    feed = [(f"blocks.1.feed_forward.out.{name}", everything) for name in ("weight", "bias")]
    close(without(model, "layer 2 attention"), zeroed(model, *attention))
    close(without(model, "layer 2 feed-forward"), zeroed(model, *feed))
    close(without(model, "layer 2"), zeroed(model, *attention, *feed))
    *_, before, _ = model.hidden_states(TEXT).values()
    close(without(model, "layer 2"), model.head(before))  # the residual stream goes on past the block


@pytest.mark.parametrize("arch", ["lstm", "gru", "rnn"])
@torch.no_grad()
def test_a_unit_that_is_off_is_columns_of_zeros_in_all_that_reads_it(build: Build, arch: str) -> None:
    model, unit = build(arch).model, slice(4, 5)
    close(
        without(model, "layer 1", "unit 5"),
        zeroed(model, ("rnn.weight_hh_l0", unit), ("rnn.weight_ih_l1", unit)),
    )
    close(without(model, "layer 2", "unit 5"), zeroed(model, ("rnn.weight_hh_l1", unit), ("head.weight", unit)))


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_a_fused_lstm_and_one_that_zeroes_its_hidden_vector_at_each_step_agree(build: Build, tied: bool) -> None:
    fused, loop = build("lstm", tied=tied).model, build("lstmcell", tied=tied).model
    for n, cell in enumerate(loop.rnn):
        for name, weight in cell.named_parameters():
            weight.copy_(getattr(fused.rnn, f"{name}_l{n}"))
    loop.embed.load_state_dict(fused.embed.state_dict())
    loop.head.load_state_dict(fused.head.state_dict())
    assert len(fused.parts()) == len(loop.parts()) == 2 * 17
    for one, other in zip(fused.parts(), loop.parts(), strict=True):
        assert (one.place, one.name) == (other.place, other.name)
        with one.off(), other.off():
            close(logits(fused), logits(loop))


@torch.no_grad()
def test_a_recurrent_model_without_its_last_layer_guesses_the_same_everywhere(build: Build) -> None:
    model = build("gru").model
    close(without(model, "layer 2"), model.head.bias.expand(2, 14, 12))


@pytest.mark.parametrize("attention", ["general", "none"])
@torch.no_grad()
def test_a_decoder_without_its_source_writes_the_same_for_all(build: Build, attention: str) -> None:
    model = build("seq2seq", attention=attention).model
    other = (SOURCE + 1) % 12
    for place, blind in (("source", True), ("decoder 1", False)):
        with part(model, place, "whole").off():
            a, b = (model(TEXT[:, :8], source=source).logits for source in (SOURCE, other))
        assert torch.allclose(a, b) == blind


def test_a_part_of_the_text_is_as_many_tokens_as_the_bytes_hold(build: Build) -> None:
    vocabularies = build("rnn").vocabularies
    whole = Split(np.arange(12, dtype=np.uint8), np.array([0]), 12, 12)
    beginning = whole.beginning(5, vocabularies)
    assert (beginning.ids.tolist(), beginning.chars, beginning.bytes) == ([0, 1, 2, 3, 4], 5, 5)
    assert len(whole.beginning(99, vocabularies)) == 12


def test_of_pairs_the_first_are_scored_whole(typed: Typed, translator: Path) -> None:
    code, out, err = typed("ablate", translator, "--max-bytes", "20", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert 8 < shown["bytes"] <= 20
    assert shown["tokens"] == shown["chars"] == shown["bytes"]
    lost = {(p["place"], p["name"]): p["lost"] for p in shown["parts"]}
    assert lost["source", "whole"] > 1  # it writes words backwards


def test_the_loss_is_the_difference_of_two_exact_scores(trained: Path) -> None:
    text = "PEG:\nThe broth, and the bench, and the tide.\n" * 3
    Path("other.txt").write_text(text, encoding="utf-8")
    ablation = result(ablate(trained, corpus=Corpus.open(["other.txt"]), max_bytes=len(text)))
    lm = charlm.load(trained)
    assert ablation.score.bits_per_byte == pytest.approx(lm.score(text).bits_per_byte)
    assert [loss.name for loss in ablation.losses] == ["whole", *(f"unit {n}" for n in range(1, 49))]
    columns = lm.model.head.weight, lm.model.rnn.weight_hh_l0
    with torch.no_grad():
        for weight in columns:
            weight[:, 2] = 0
    lost = lm.score(text).bits_per_byte - ablation.score.bits_per_byte
    assert ablation.losses[3].lost == pytest.approx(lost, abs=1e-5)


SHOWN = Ablation(
    Score(2.0, 1.0, 9, 9, 9, 9),
    [
        Loss("layer 1", "whole", 1.5),
        Loss("layer 1 attention", "whole", 0.5),
        Loss("layer 1 attention", "head 1", 0.25),
        Loss("layer 1 attention", "head 2", -0.125),
    ],
)


def drawn(view: Losses, width: int = 80, **how: Any) -> Console:
    console = Console(file=StringIO(), width=width, record=True, **how)
    console.print(view)
    return console


def test_the_grid_has_a_row_for_a_place_and_a_column_for_a_part() -> None:
    lines = [line.rstrip() for line in drawn(Losses(SHOWN, 2)).export_text().split("\n")]
    assert lines[0] == "2.0000 bits per byte on 9 bytes, with all parts"
    assert lines[3:6] == [
        "                    whole  head 1  head 2",
        "layer 1            +1.500",
        "layer 1 attention  +0.500  +0.250  -0.125",
    ]
    assert [line.split() for line in lines[8:10]] == [
        ["layer", "1,", "whole", "+1.5000"],
        ["layer", "1", "attention,", "whole", "+0.5000"],
    ]
    assert lines[10] == "the first 2 of 4, by 9 bytes each; a surer order: --max-bytes N"


def test_what_is_missed_is_red_and_what_is_better_left_out_blue() -> None:
    console = drawn(Losses(SHOWN, 2), force_terminal=True, color_system="truecolor", no_color=False)
    page = console.export_html(inline_styles=True)
    assert "background-color: #b2182b" in page
    blue = page.split("-0.125")[0].rsplit("background-color: #", 1)[1]
    assert int(blue[4:6], 16) > int(blue[0:2], 16)


def test_many_heads_stand_in_panels_that_fit_and_units_in_the_list_alone() -> None:
    heads = [Loss("layer 1 attention", f"head {n}", 0.1) for n in range(1, 33)]
    page = drawn(Losses(SHOWN._replace(losses=heads), 5), width=60).export_text()
    assert max(map(len, page.split("\n"))) <= 60
    assert page.count("+0.100") == 32 + 5
    units = [Loss("layer 1", "whole", 3.0), *(Loss("layer 1", f"unit {n}", 0.1) for n in range(500))]
    lines = drawn(Losses(SHOWN._replace(losses=units), 5)).export_text().split("\n")
    assert len(lines) < 16


def test_the_command_shows_a_table_prints_json_and_saves_pictures(typed: Typed, looking: dict[str, Path]) -> None:
    code, out, err = typed("ablate", looking["transformer"], "--max-bytes", "40", "--top", "3")
    assert code == 0, err
    lines = out.splitlines()
    assert "bits per byte on 40 bytes" in lines[0]
    assert lines[3].split() == ["whole", "head", "1"]
    assert lines[-1] == "the first 3 of 16, by 40 bytes each; a surer order: --max-bytes N"
    Path("other.txt").write_text("The lamp is out.\n" * 9, encoding="utf-8")
    saved = ["--json", "--html", "a.html", "--svg", "a.svg"]
    code, out, err = typed("ablate", looking["seq2seq"], "--text", "other.txt", "--max-bytes", "34", *saved)
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["bytes"], shown["measure"][0]) == (34, "bits_per_byte")
    lost = [part["lost"] for part in shown["parts"]]
    assert lost == sorted(lost, reverse=True)
    assert "background-color: #" in Path("a.html").read_text(encoding="utf-8")
    assert Path("a.svg").read_text(encoding="utf-8").startswith("<svg")


def test_without_a_size_the_parts_share_the_work_and_each_gets_some(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has 49 parts."""
    Path("other.txt").write_text("The lamp is out.\n" * 30, encoding="utf-8")
    monkeypatch.setattr("charlm.inside.ablate.SHORTEST", 100)
    for work, size in ((49 * 150, 150), (49 * 20, 100)):
        monkeypatch.setattr("charlm.inside.ablate.WORK", work)
        assert result(ablate(trained, corpus=Corpus.open(["other.txt"]))).score.bytes == size


def test_the_command_changes_no_file(typed: Typed, looking: dict[str, Path]) -> None:
    files = {path: path.read_bytes() for path in looking["transformer"].iterdir() if path.is_file()}
    assert typed("ablate", looking["transformer"], "--max-bytes", "20")[0] == 0
    assert {path: path.read_bytes() for path in looking["transformer"].iterdir() if path.is_file()} == files


def test_the_command_refuses_in_one_line(typed: Typed, trained: Path) -> None:
    code, out, err = typed("ablate", trained, "--pairs", "other.tsv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "trained on running text" in err
    assert typed("ablate", trained, "--max-bytes", "0")[0] == 2
