"""ELMo: what it computes, what it learns, and its layers as features of a frozen network."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from small_runs import labelled_words
from test_archs import SPEC, build, close, tokens, trainer
from test_classify import classifier_of, weights
from torch import Tensor

import charlm
from charlm.errors import SettingsError
from charlm.evaluate import evaluate
from charlm.model import PAD
from charlm.objectives._base import Batch
from charlm.objectives._classifier import Mix
from charlm.objectives.two_way import TwoWays
from charlm.plan import Plan
from charlm.progress import result
from charlm.runs import folder

Typed = Callable[..., tuple[int, str, str]]
FEW = ("--steps", "8", "--quiet", "--out")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "words.tsv"
    path.write_text(labelled_words(120), encoding="utf-8")
    return path


def stack(layers: list[dict[str, Tensor]], xs: list[Tensor]) -> Iterator[list[Tensor]]:
    """Each layer's h_t, one step after the other, by the equations in `archs/lstm.py`; later layers add their input."""
    for number, p in enumerate(layers):
        h = c = torch.zeros(len(xs[0]), p["weight_hh_l0"].size(1), dtype=torch.double)
        out = []
        for x in xs:
            gates = p["weight_ih_l0"] @ x.mT + p["weight_hh_l0"] @ h.mT + (p["bias_ih_l0"] + p["bias_hh_l0"])[:, None]
            i, f, g, o = gates.mT.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h + x if number else h)
        xs = out
        yield xs


@torch.no_grad()
def test_its_layers_and_its_loss_are_those_of_the_paper_step_by_step() -> None:
    network, text = build("elmo", layers=3).double(), tokens(2, 10)
    embedded = list(network.embed(text[:, :-1]).unbind(1)), list(network.embed(text[:, 1:]).flip(1).unbind(1))
    layers = [[dict(pair[way].named_parameters()) for pair in network.layers] for way in ("onwards", "backwards")]
    onwards, backwards = (list(stack(*given)) for given in zip(layers, embedded, strict=True))
    guess = lambda h: (h @ network.head.weight.mT + network.head.bias).log_softmax(-1)  # noqa: E731
    nats = 0.0
    for t in range(9):
        nats -= float(guess(onwards[-1][t]).gather(1, text[:, t + 1 : t + 2]).sum())
        nats -= float(guess(backwards[-1][t]).gather(1, text[:, 8 - t : 9 - t]).sum())
    goal = TwoWays()
    batch = goal.batch((text,), SPEC, torch.Generator())
    loss = goal.loss(network, batch, goal.start(network, 2))
    assert float(loss.nats) == pytest.approx(nats / 2, abs=1e-4)  # costs are summed in single precision
    shown = network.hidden_states(text[:, :-1])
    x = torch.stack(embedded[0], 1)
    torch.testing.assert_close(shown["embedding"], torch.cat([x, x], -1), atol=1e-10, rtol=0)
    turned = list(stack(layers[1], embedded[0][::-1]))
    for n in range(3):
        both = torch.cat([torch.stack(onwards[n], 1), torch.stack(turned[n][::-1], 1)], -1)
        torch.testing.assert_close(shown[f"layer {n + 1}"], both, atol=1e-10, rtol=0)


@torch.no_grad()
def test_what_is_carried_is_what_reads_onwards_and_what_is_padded_costs_nothing() -> None:
    network, text, goal = build("elmo"), tokens(2, 17), TwoWays()
    cost = lambda batch, state: goal.loss(network, batch, state)  # noqa: E731
    shown = lambda first, last: goal.batch((text[:, first : last + 1],), SPEC, torch.Generator())  # noqa: E731
    blank = goal.start(network, 2)
    first = cost(shown(0, 8), blank)
    second = cost(shown(8, 16), first.state)
    onwards, backwards = network.ways()
    ahead = F.cross_entropy(onwards(text[:, :-1]).logits.mT, text[:, 1:], reduction="sum")
    behind = [backwards(part[:, 1:].flip(1)).logits.mT for part in (text[:, :9], text[:, 8:])]
    back = sum(
        F.cross_entropy(logits, part[:, :-1].flip(1), reduction="sum")
        for logits, part in zip(behind, (text[:, :9], text[:, 8:]), strict=True)
    )
    close(first.nats + second.nats, (ahead + back) / 2)
    short = text[:, :9].clone()
    short[0, 5:] = PAD
    alone = [
        cost(goal.batch((rows,), SPEC, torch.Generator()), goal.start(network, 1)).nats
        for rows in (text[:1, :5], text[1:, :9])
    ]
    close(cost(goal.batch((short,), SPEC, torch.Generator()), blank).nats, alone[0] + alone[1])


@torch.no_grad()
def test_the_score_is_the_mean_of_two_exact_figures(both_ways: Path, typed: Typed) -> None:
    writer = charlm.load(both_ways)
    code, out, _ = typed("eval", both_ways, "--json")
    assert code == 0
    said = json.loads(out)
    assert "bits_per_byte" not in said
    assert said["bits_per_byte_both_ways"] == pytest.approx(
        (said["forward_bits_per_byte"] + said["backward_bits_per_byte"]) / 2
    )
    text = "The lamp is out, the tide is in.\n"
    file = Path("lamp.txt")
    file.write_text(text)
    said = json.loads(typed("eval", both_ways, "--text", file, "--json")[1])
    ids = writer.tokenizer.encode("\n" + text)
    for name, way, read in zip(
        ("forward", "backward"),
        writer.model.ways(),
        (ids, np.append(writer.tokenizer.encode(text), ids[0])[::-1]),
        strict=True,
    ):
        fed = torch.from_numpy(read.copy().astype(np.int64))[None]
        nats = F.cross_entropy(way(fed[:, :-1]).logits[0], fed[0, 1:], reduction="sum")
        assert said[f"{name}_bits_per_byte"] == pytest.approx(float(nats) / math.log(2) / len(text), rel=1e-4)
    exact = result(evaluate(writer.model.ways()[0], ids[1:], ids[:1], chars=len(text), bytes=len(text)))
    assert said["forward_bits_per_byte"] == pytest.approx(exact.bits_per_byte)


def test_both_directions_learn(both_ways: Path) -> None:
    best = folder.info(both_ways).best
    assert best is not None
    assert best.measure == TwoWays().measure
    assert max(best.figures.values()) < 3.6  # by the frequency of characters alone: 4.2


def test_its_scores_stand_in_no_ranking_with_bits_per_byte(both_ways: Path, trained: Path, typed: Typed) -> None:
    code, _, err = typed("compare", both_ways, trained)
    assert code == 2
    assert "scores in different measures (bits/byte (mean of both ways), bits/byte) do not compare" in err
    infos = [folder.info(path) for path in (trained, both_ways)]
    assert folder.best_of(infos) is infos[1], "alone with its measure"


def test_it_is_resumed_exactly(typed: Typed, verses: Path) -> None:
    begin = ["train", verses, "--arch", "elmo", "--hidden-size", "16", "--dropout", "0.2", "--steps", "8", "--quiet"]
    assert typed(*begin, "--out", "at-once")[0] == 0
    assert typed(*begin, "--out", "in-two", "--stop-after", "3")[0] == 0
    assert typed("train", "--resume", "in-two", "--quiet")[0] == 0
    once, twice = weights("at-once"), weights("in-two")
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_what_it_cannot_do_is_refused_with_what_it_can(both_ways: Path, typed: Typed, verses: Path) -> None:
    for command in (
        ["sample", both_ways],
        ["fill", both_ways, "[MASK]"],
        ["score", both_ways, verses],
        ["lens", both_ways, "--text", "To be"],
        ["compress", both_ways, verses],
    ):
        code, _, err = typed(*command)
        assert code == 2
        assert "trained with --objective two-way; use charlm features, or charlm eval" in " ".join(err.split())
    code, _, err = typed("train", verses, "--arch", "elmo", "--objective", "causal", "--steps", "1")
    assert code == 2
    assert "--objective causal is not for elmo on running text; choose from two-way, " in " ".join(err.split())


def test_its_vectors_are_used_by_other_commands(both_ways: Path, typed: Typed, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("The lamp is out\nthe tide\n")
    arrays = {}
    for layer in ("0", "1", "2", "last", "mix"):
        code, out, _ = typed("features", both_ways, lines, "--layer", layer, "--json")
        assert code == 0
        arrays[layer] = np.array([json.loads(line)["vector"] for line in out.splitlines()])
        assert arrays[layer].shape == (2, 48)
    np.testing.assert_allclose(arrays["0"][:, :24], arrays["0"][:, 24:])
    np.testing.assert_allclose(arrays["2"], arrays["last"])
    np.testing.assert_allclose(arrays["mix"], (arrays["0"] + arrays["1"] + arrays["2"]) / 3, atol=2e-6)
    long = "The lamp is out. " * 20  # it has no window, and what it is trained on in segments of 32 is no limit
    for text in ("The lamp", long):
        code, out, _ = typed("similar", both_ways, "--text", text, "--read", "4000", "--json")
        assert code == 0
        assert json.loads(out)["compared"] > 1
    code, _, err = typed("features", both_ways, lines, "--layer", "3", "--json")
    assert code == 2
    assert "--layer must be last, mix or a number from 0 to 2 in this run, got '3'" in err
    code, out, _ = typed("ablate", both_ways, "--json")
    assert code == 0
    assert {part["place"] for part in json.loads(out)["parts"]} == {
        f"layer {n} {way}" for n in (1, 2) for way in ("onwards", "backwards")
    }


# ---- a learned mix of the layers of a frozen network


def test_the_mix_is_that_of_the_paper() -> None:
    mix, layers = Mix(["a", "layer 1", "c"]), list(torch.randn(3, 2, 5, 4))
    close(mix(layers), torch.stack(layers).mean(0))
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
        mix.scale.fill_(1.7)
    powers = [math.exp(s) for s in (0.3, -1.0, 2.0)]
    close(mix(layers), 1.7 * sum(power / sum(powers) * x for power, x in zip(powers, layers, strict=True)))
    assert mix.figures() == pytest.approx(
        {
            "mix_a": powers[0] / sum(powers),
            "mix_layer_1": powers[1] / sum(powers),
            "mix_c": powers[2] / sum(powers),
            "mix_scale": 1.7,
        }
    )


@pytest.mark.parametrize("arch", ["elmo", "bert", "lstm", "transformer", "transformer-xl", "reformer", "gru"])
def test_the_network_below_the_mix_stays_as_it_is_and_what_is_above_learns(arch: str) -> None:
    fit = trainer(arch, goal="classify", steps=6, features=True, weight_decay=0.5, ema=0.9, changes={"dropout": 0.3})
    start = {name: p.detach().clone() for name, p in fit.model.named_parameters()}
    list(fit)
    assert fit.average is not None
    averaged = dict(fit.average.named_parameters())
    for name, p in fit.model.named_parameters():
        assert torch.equal(p, start[name]) == name.startswith("body."), name
        assert not name.startswith("body.") or (p.grad is None and torch.equal(averaged[name], start[name]))


@pytest.mark.parametrize("arch", ["elmo", "bert", "lstm", "transformer"])
def test_with_features_an_answer_depends_on_no_padding_and_on_no_chance(arch: str) -> None:
    """In training, too: the frozen network drops nothing."""
    network = classifier_of(arch, features=True, head_dropout=0.0, dropout=0.5).train()
    rows = torch.full((2, 14), PAD)
    text = tokens(2, 12)
    rows[0, :12], rows[1, :5] = text[0], text[1, :5]
    together = network(rows).logits
    close(together, network(rows).logits)
    close(together[1:], network(text[1:, :5]).logits)
    layers = list(network.body.hidden_states(text).values())
    close(network.vectors(text)[0], torch.stack(layers).mean(0))


def test_what_pools_two_ways_takes_each_where_it_ends() -> None:
    network, text = classifier_of("elmo", pool="last"), tokens(1, 6)
    vectors = network.body.encode(text)
    size = vectors.size(-1) // 2
    ends = torch.cat([vectors[:, -1, :size], vectors[:, 0, size:]], -1)
    close(network(text).logits, network.head(ends))
    assert classifier_of("elmo").pool == "concat"


@pytest.mark.slow
def test_a_head_learns_what_layers_it_needs_and_says_so(both_ways: Path, labelled: Path, typed: Typed) -> None:
    train = ["train", labelled, "--init-from", both_ways, "--features", "--weight-decay", "0.5"]
    begin = [*train, "--lr", "5e-2", "--steps", "12", "--batch-tokens", "512", "--ema", "0.5"]
    code, out, _ = typed(*begin, "--out", "at-once")
    assert code == 0
    assert all(name in out for name in ("mix_embedding", "mix_layer_1", "mix_layer_2", "mix_scale"))
    assert typed(*begin, "--quiet", "--out", "in-two", "--stop-after", "5")[0] == 0
    assert typed("train", "--resume", "in-two", "--quiet")[0] == 0
    before, once, twice = load_file(both_ways / "model.safetensors"), weights("at-once"), weights("in-two")
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert all(torch.equal(t, before[name[5:]]) for name, t in once.items() if name.startswith("body."))
    assert once["mix.weights"].abs().max() > 0.01
    best = json.loads(Path("at-once/training.json").read_text())["best"]["figures"]
    shares = load_file("at-once/model.safetensors")["mix.weights"].softmax(0).tolist()
    assert [best[f"mix_{name}"] for name in ("embedding", "layer_1", "layer_2")] == pytest.approx(shares)
    assert "mix_layer_1" in typed("info", "at-once")[1]
    assert json.loads(typed("eval", "at-once", "--json")[1])["mix_layer_1"] == pytest.approx(best["mix_layer_1"])
    Path("lines.txt").write_text("the wet oak\n")
    vectors = {}
    for layer in ("0", "1", "2", "mix"):
        code, out, _ = typed("features", "at-once", "lines.txt", "--layer", layer, "--json")
        assert code == 0
        vectors[layer] = np.array(json.loads(out)["vector"])
    mixed = sum(share * vectors[str(n)] for n, share in enumerate(shares)) * best["mix_scale"]
    np.testing.assert_allclose(vectors["mix"], mixed, atol=1e-5)
    assert typed("classify", "at-once", "lines.txt")[0] == 0
    code, out, _ = typed("train", labelled, "--init-from", "at-once", "--no-features", *FEW[:2], "--out", "tuned")
    assert code == 0
    assert "4 of its mix are left out" in " ".join(out.split())
    code, out, _ = typed("train", labelled, "--init-from", "tuned", "--features", *FEW[:2], "--out", "mixed")
    assert code == 0
    assert "4 of its mix are new" in " ".join(out.split())


@pytest.mark.slow
def test_it_is_tuned_whole_too(both_ways: Path, labelled: Path, typed: Typed) -> None:
    tuned = ["--unfreeze", "gradual", "--layer-decay", "2.6", "--schedule", "slanted"]
    assert typed("train", labelled, "--init-from", both_ways, *tuned, *FEW, "run")[0] == 0
    before, after = load_file(both_ways / "model.safetensors"), weights("run")
    assert json.loads(Path("run/config.json").read_text())["data"]["max_length"] == 256, "not cut to segments"
    assert not torch.equal(after["body.layers.1.backwards.weight_hh_l0"], before["layers.1.backwards.weight_hh_l0"])


def test_features_of_no_run_and_what_would_change_one_are_refused(trained: Path, labelled: Path, typed: Typed) -> None:
    code, _, err = typed("train", labelled, "--arch", "lstm", "--features", *FEW, "run")
    assert code == 2
    assert "--features is for a trained network; name its run: --init-from RUN" in err
    for option, value in (("--unfreeze", "gradual"), ("--layer-decay", "2"), ("--lm-share", "0.5")):
        code, _, err = typed("train", labelled, "--init-from", trained, "--features", option, value, *FEW, "run")
        assert code == 2
        assert f"{option} " in err
        assert "with --features it stays as it is; leave one of them out" in " ".join(err.split())
    assert not Path("run").exists()
    with pytest.raises(SettingsError, match="--lm-share is for models that read from left to right"):
        Plan.of({"arch": "elmo", "lm_share": 0.5}, kind="labels").build(SPEC._replace(classes=3))
    network = classifier_of("elmo")
    assert network(Batch(tokens(2, 5), tokens(2, 1)).tokens).guesses is None
