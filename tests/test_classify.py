"""Classifying texts: the head on any network, the measures, the commands, and training from a run stage by stage."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from small_runs import labelled_words, train_on_verses
from test_archs import SMALL, SPEC, close, tokens, trainer

import charlm
from charlm import archs, kinds, objectives
from charlm.config import PAD, TrainSettings, fields_of, take
from charlm.errors import SettingsError
from charlm.kinds._agreement import agreement, confusion, wilson
from charlm.model import LanguageModel
from charlm.objectives._base import Batch
from charlm.objectives._classifier import pooled
from charlm.plan import Plan, kinds_for
from charlm.training.optim import build_optimizers, rate, set_rate, stages_from_top

Typed = Callable[..., tuple[int, str, str]]
ABLE = [name for name in archs.names() if "labels" in kinds_for(name)]
CAUSAL = [name for name in ABLE if issubclass(archs.load(name), LanguageModel)]
FEW = ("--steps", "6", "--quiet", "--out")


def classifier_of(arch: str, **settings: Any) -> Any:
    """A small network with a head of three classes."""
    torch.manual_seed(0)
    known = {f.name for group in (archs.load(arch).Config, objectives.load("classify")) for f in fields_of(group)}
    values = {name: value for name, value in {**SMALL, **settings}.items() if name in known}
    return Plan.of({"arch": arch, **values}, kind="labels").build(SPEC._replace(classes=3)).eval()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "words.tsv"
    path.write_text(labelled_words(120), encoding="utf-8")
    return path


@pytest.mark.parametrize("arch", ABLE)
def test_the_answer_to_a_text_depends_on_no_other_text_and_on_no_padding(arch: str) -> None:
    network, texts = classifier_of(arch), tokens(4, 12)
    sizes = [12, 7, 3, 1]
    rows = torch.full((4, 14), PAD)
    for row, text, size in zip(rows, texts, sizes, strict=True):
        row[:size] = text[:size]
    with torch.no_grad():
        together = network(rows).logits
        alone = torch.cat([network(text[None, :size]).logits for text, size in zip(texts, sizes, strict=True)])
    assert together.shape == (4, 3)
    close(together, alone)


@pytest.mark.parametrize("arch", ABLE)
def test_its_stages_hold_all_weights_and_the_head_of_classes_is_the_last(arch: str) -> None:
    network = classifier_of(arch)
    stages = stages_from_top(network)
    assert {id(p) for p in stages[0]} == {id(p) for p in network.head.parameters()}
    assert sorted(id(p) for stage in stages for p in stage) == sorted(id(p) for p in network.parameters())
    assert len(stages) > 2


def test_what_is_pooled_is_of_the_texts_own_tokens() -> None:
    hidden = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    real = torch.tensor([[True] * 5, [True, True, False, False, False]])
    short = hidden[1, :2]
    close(pooled(hidden, real, "first")[1], hidden[1, 0])
    close(pooled(hidden, real, "last")[1], short[-1])
    close(pooled(hidden, real, "mean")[1], short.mean(0))
    close(pooled(hidden, real, "concat")[1], torch.cat([short[-1], short.amax(0), short.mean(0)]))


@pytest.mark.parametrize("arch", ["lstm", "transformer"])
def test_the_auxiliary_loss_is_the_mean_cost_of_the_texts_tokens(arch: str) -> None:
    """Equation 5 of the paper, times the number of texts."""
    network, goal = classifier_of(arch, lm_share=0.5), take(objectives.load("classify"), {"lm_share": 0.5})
    texts, labels = tokens(3, 9), torch.tensor([[2], [0], [1]])
    texts[1, 6:] = PAD
    loss = goal.loss(network, Batch(texts, labels), ())
    out = network(texts)
    each = F.cross_entropy(out.guesses[:, :-1].mT, texts[:, 1:], ignore_index=PAD, reduction="none")
    close(loss.nats, F.cross_entropy(out.logits, labels[:, 0], reduction="sum"))
    close(loss.minimised - loss.nats, 0.5 * 3 * each.sum() / (texts[:, 1:] != PAD).sum())
    plain = archs.load(arch)(network.config, SPEC)
    plain.load_state_dict(network.body.state_dict())
    close(out.guesses[0], plain.eval()(texts[:1]).logits[0])


def test_without_it_the_body_has_no_head_of_its_own() -> None:
    assert [name for name, _ in classifier_of("lstm").named_parameters() if name.startswith("body.head")] == []


def test_what_a_network_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="--pool first is for models that read both ways"):
        classifier_of("lstm", pool="first")
    with pytest.raises(SettingsError, match=r"seq2seq reads no labelled texts; choose from .*lstm"):
        Plan.of({"arch": "seq2seq"}, kind="labels")


def test_the_measures_are_what_their_definitions_say() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 500)
    guessed = np.where(rng.random(500) < 0.6, true, rng.integers(0, 3, 500))  # the last class is guessed rarely
    counts = confusion(true, guessed, 5)  # and a fifth never occurs
    got = agreement(counts)
    f1 = []
    for name in range(4):
        hits = ((true == name) & (guessed == name)).sum()
        precision, recall = hits / max((guessed == name).sum(), 1), hits / (true == name).sum()
        f1.append(2 * precision * recall / (precision + recall))
    assert got.macro_f1 == pytest.approx(np.mean(f1))
    hot = [np.eye(5)[side] - np.eye(5)[side].mean(0) for side in (true, guessed)]
    covariance = [[(a * b).sum() for b in hot] for a in hot]
    assert got.mcc == pytest.approx(covariance[0][1] / math.sqrt(covariance[0][0] * covariance[1][1]))
    assert got.majority == pytest.approx(np.bincount(true).max() / 500)
    assert counts.trace() == (true == guessed).sum()
    assert agreement(confusion(true, np.zeros(500, int), 4)).mcc == 0


def test_wilsons_interval_holds_the_shares_that_the_data_do_not_speak_against() -> None:
    """Its ends are where the distance of what was seen is 1.96 standard deviations."""
    for right, total in ((7, 10), (199, 200), (50, 100)):
        for end in wilson(right, total):
            assert abs(right / total - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / total))
    assert wilson(15, 15)[1] == 1.0


def test_it_tells_held_out_texts_apart_and_says_how_well(classifier: Path, typed: Typed) -> None:
    code, out, _ = typed("eval", classifier, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["accuracy"] > 0.9 > 2 * said["majority"]
    assert said["low"] < said["accuracy"] <= said["high"] + 1e-9
    assert said["texts"] == sum(map(sum, said["confusion"]["counts"]))
    assert said["confusion"]["classes"] == ["bird", "metal", "tree"]
    shown = typed("eval", classifier, "--split", "test")[1]
    assert "is, and was taken for" in shown
    assert "nats per text" in shown
    other = json.loads(typed("eval", classifier, "--labels", classifier.parent / "words.tsv", "--json")[1])
    assert other["texts"] == 400


def test_lines_from_a_pipe_get_a_label_and_its_share(
    classifier: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the wet oak\n\niron\n")))
    code, out, _ = typed("classify", classifier)
    assert code == 0
    lines = [line.split("\t") for line in out.split("\n")]
    assert [line[0] for line in lines] == ["tree", "", "metal", ""]
    assert 0.5 < float(lines[0][1]) <= 1
    answers = charlm.load(classifier).classify(["the wet oak", "iron"])
    assert [best[0][0] for best in answers] == ["tree", "metal"]
    assert sum(share for _, share in answers[0]) == pytest.approx(1)


def test_a_file_is_classified_as_json_and_a_long_line_is_cut_with_a_note(
    classifier: Path, tmp_path: Path, typed: Typed
) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("we in the kite\n" + "the " * 100 + "\n")
    code, out, err = typed("classify", classifier, file, "--json")
    assert code == 0
    first, second = map(json.loads, out.splitlines())
    assert first["label"] == max(first["shares"], key=first["shares"].get) == "bird"
    assert second["label"] in ("bird", "metal", "tree")
    assert "longer than the 256 tokens that this run reads, and cut off there: line 2" in " ".join(err.split())


def test_a_character_that_the_run_cannot_spell_is_named_with_its_line(
    classifier: Path, tmp_path: Path, typed: Typed
) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("iron\nÖl\n")
    code, out, err = typed("classify", classifier, file)
    assert (code, out.count("\n")) == (2, 1)
    assert "line 2: the vocabulary lacks 'O'" in err or "line 2: the vocabulary lacks 'Ö'" in err
    assert typed("classify", classifier, file, "--unknown", "skip")[0] == 0


def test_other_commands_and_other_runs_are_refused_with_the_command_that_fits(
    classifier: Path, trained: Path, typed: Typed
) -> None:
    for command in (
        ["sample", classifier],
        ["translate", classifier],
        ["score", classifier, classifier.parent / "words.tsv"],
    ):
        code, _, err = typed(*command)
        assert code == 2
        assert "charlm classify" in err
    code, _, err = typed("classify", trained)
    assert code == 2
    assert "was trained on running text" in err
    assert "--labels FILE" in typed("eval", classifier, "--text", classifier.parent / "words.tsv")[2]


def test_what_is_learnt_from_a_table_is_asked_for_by_the_objective(labelled: Path, typed: Typed) -> None:
    small = ("--hidden-size", "16", *FEW)
    assert typed("train", labelled, "--pool", "mean", *small, "labels")[0] == 0
    assert json.loads(Path("labels/config.json").read_text())["objective"]["classify"]["pool"] == "mean"
    assert typed("train", labelled, "--objective", "causal", *small, "text")[0] == 0
    assert json.loads(Path("text/config.json").read_text())["kind"] == "text"
    assert typed("train", labelled, "--arch", "seq2seq", *small, "pairs")[0] == 0
    assert json.loads(Path("pairs/config.json").read_text())["kind"] == "pairs"
    plain = labelled.with_name("few.tsv")
    plain.write_text("oak\ttree\niron\tmetal\nelm\ttree\ntin\tmetal\n")
    assert typed("train", plain, "--objective", "classify", "--arch", "lstm", *small, "few")[0] == 0
    assert json.loads(Path("few/config.json").read_text())["kind"] == "labels"


def weights(run: Path | str) -> dict[str, torch.Tensor]:
    return load_file(Path(run, "last.safetensors"))


def test_it_starts_with_the_body_of_a_run_on_running_text_and_a_new_head(
    trained: Path, labelled: Path, typed: Typed
) -> None:
    code, out, _ = typed("train", labelled, "--init-from", trained, "--steps", "1", "--lr", "0", "--out", "run")
    assert code == 0
    before, after = load_file(trained / "model.safetensors"), weights("run")
    body = {name.removeprefix("body."): t for name, t in after.items() if name.startswith("body.")}
    assert {*before} - {*body} == {"head.weight", "head.bias"}
    assert all(torch.equal(before[name], t) for name, t in body.items())
    taken = sum(t.numel() for t in body.values())
    new = sum(t.numel() for name, t in after.items() if name.startswith("head."))
    left = sum(before[name].numel() for name in ("head.weight", "head.bias"))
    assert f"starts with the {taken:,} weights of {trained}, step 60" in " ".join(out.split())
    assert f"{left:,} of its head are left out; the head of 3 classes is new, with {new:,}" in " ".join(out.split())
    tokenizer = json.loads(Path("run/tokenizer.json").read_text())
    assert tokenizer["texts"]["characters"] == json.loads((trained / "tokenizer.json").read_text())["characters"]
    code, out, _ = typed("train", labelled, "--init-from", "run", "--steps", "1", "--lr", "0", "--out", "again")
    assert code == 0
    assert "is new" not in out  # the classes are the same
    assert all(torch.equal(t, weights("again")[name]) for name, t in after.items())


def test_texts_are_no_longer_than_the_window_of_the_run_that_it_starts_from(
    tmp_path: Path, labelled: Path, typed: Typed
) -> None:
    small = {"arch": "transformer", "positions": "learned", "hidden_size": 32, "layers": 1, "seq_len": 24, "steps": 2}
    train_on_verses(tmp_path, **small)
    start = ["train", labelled, "--init-from", tmp_path / "run", "--lm-share", "0.5", *FEW]
    assert typed(*start, "short")[0] == 0
    assert json.loads(Path("short/config.json").read_text())["data"]["max_length"] == 22
    assert (
        weights("short")["body.head.weight"].shape == load_file(tmp_path / "run/last.safetensors")["head.weight"].shape
    )
    code, _, err = typed(*start, "long", "--max-length", "40")
    assert code == 2
    assert "has learned 24 positions and 42 are asked for" in err


def test_it_is_resumed_exactly_while_stages_thaw(trained: Path, labelled: Path, typed: Typed) -> None:
    tuned = ["--unfreeze", "gradual", "--layer-decay", "2.6", "--schedule", "slanted", "--dropout", "0.2"]
    begin = ["train", labelled, "--init-from", trained, "--batch-tokens", "512", *tuned, "--steps", "12", "--quiet"]
    assert typed(*begin, "--out", "at-once")[0] == 0
    assert typed(*begin, "--out", "in-two", "--stop-after", "5")[0] == 0
    assert typed("train", "--resume", "in-two", "--quiet")[0] == 0
    once, twice, first = weights("at-once"), weights("in-two"), load_file(trained / "model.safetensors")
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert not torch.equal(once["body.rnn.weight_hh_l0"], first["rnn.weight_hh_l0"])


def test_with_only_the_head_to_learn_the_body_stays_as_it_was(trained: Path, labelled: Path, typed: Typed) -> None:
    command = ["train", labelled, "--init-from", trained, "--unfreeze", "head", "--weight-decay", "0.5", *FEW, "run"]
    assert typed(*command)[0] == 0
    before, after = load_file(trained / "model.safetensors"), weights("run")
    assert all(torch.equal(t, before[name[5:]]) for name, t in after.items() if name.startswith("body."))
    assert after["head.3.bias"].abs().max() > 0


def test_one_stage_more_learns_with_each_epoch() -> None:
    fit = trainer("lstm", goal="classify", steps=100, unfreeze="gradual", layer_decay=2.6)
    stages, epochs = stages_from_top(fit.model), 0
    for step in fit:
        before = [[p.clone() for p in stage] for stage in stages]
        fit.step(step.progress)
        changed = [
            any(not torch.equal(*pair) for pair in zip(*both, strict=True)) for both in zip(before, stages, strict=True)
        ]
        epochs = (fit.position.tokens - 1) // fit.batches.epoch_tokens
        assert changed == [depth <= epochs for depth in range(len(stages))]
    assert epochs >= len(stages)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_stage_learns_more_slowly_than_the_one_above_and_a_frozen_one_not_at_all(optimizer: str) -> None:
    network = classifier_of("transformer")
    settings = TrainSettings(layer_decay=2.6, optimizer=optimizer)  # type: ignore[arg-type]
    optimizers = build_optimizers(network, settings)
    set_rate(optimizers, 0.01, thawed=3)
    rates = {id(p): float(g["lr"]) for o in optimizers for g in o.param_groups for p in g["params"]}
    for depth, stage in enumerate(stages_from_top(network)):
        for p in stage:
            assert rates[id(p)] == pytest.approx(0.01 / 2.6**depth if depth < 3 else 0)


def test_the_slanted_triangle_is_the_papers() -> None:
    """Howard & Ruder 2018, equation 3, with cut_frac 0.1 and ratio 32, as a share of the peak."""
    steps, cut = 1000, 100
    for t in range(steps + 1):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / 0.1 - 1))
        assert rate("slanted", 0.1, t / steps) == pytest.approx((1 + p * (32 - 1)) / 32)
    assert Plan.of({"schedule": "slanted"}).train.warmup == 0.1
    assert Plan.of({"schedule": "slanted", "warmup": 0.3}).train.warmup == 0.3


@pytest.mark.slow
def test_labelled_texts_are_compared_by_accuracy(labelled: Path, typed: Typed) -> None:
    entrants = "lstm:hidden_size=16,transformer:hidden_size=16:lm_share=0.5:objective=classify"
    code, out, err = typed(
        "compare", labelled, "--arch", entrants, "--steps", "4", "--match", "tokens", "--test-frac", "0.3"
    )
    assert code == 0, err
    assert "36 texts to be classified, of the test part" in out
    assert "accuracy" in out
    assert "macro F1" in out
    assert kinds.load("labels").name() == "labels"
