"""Small weights become zero, and stay so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from charlm.prune import matrices, prune, pruned, zeros
from charlm.runs.saved import Saved

Typed = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_smallest_weights_of_a_matrix_are_zero_and_all_others_as_they_were(share: float) -> None:
    weight = torch.randn(30, 20)
    small = pruned(weight, share)
    gone = small == 0
    assert int(gone.sum()) == round(share * 600)
    assert torch.equal(small[~gone], weight[~gone])
    assert weight[gone].abs().max() <= weight[~gone].abs().min()
    assert int((pruned(torch.ones(30, 20), share) == 0).sum()) == round(share * 600)  # not all of what is equal


def test_embeddings_and_vectors_are_left_alone_also_where_the_head_shares_them() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(9, 8), "inner": nn.Linear(8, 8), "head": nn.Linear(8, 9)})
    model["head"].weight = model["embed"].weight
    assert matrices(model).keys() == {"inner.weight"}
    before = model["embed"].weight.clone()
    prune(model, 0.5)
    assert torch.equal(model["embed"].weight, before)
    assert zeros(model) == 32


def zero_places(run: str | Path, weights: str) -> dict[str, torch.Tensor]:
    tensors = load_file(Path(run, weights))
    return {
        name: tensors[name] == 0 for name in matrices(Saved.open(Path(run)).plan.outline(Saved.open(Path(run)).spec))
    }


def test_a_pruned_run_is_a_run_like_others(trained: Path, typed: Typed) -> None:
    code, out, _ = typed("prune", trained, "--share", "0.5", "--out", "new")
    assert code == 0
    assert "before" in out
    assert "pruned" in out
    for places in zero_places("new", "model.safetensors").values():
        assert int(places.sum()) == round(0.5 * places.numel())
    code, out, _ = typed("eval", "new", "--json")
    figures = json.loads(out)
    assert figures["nonzero"] < 0.6 * figures["params"]
    saved = json.loads(Path("new/training.json").read_text())["best"]
    assert figures["bits_per_byte"] == pytest.approx(saved["bits_per_byte"])
    assert json.loads(Path("new/config.json").read_text())["origin"]["pruned"] == 0.5
    assert "nonzero" not in json.loads(typed("eval", trained, "--json")[1])
    assert typed("sample", "new", "--length", "5", "--seed", "1")[0] == 0


@pytest.mark.parametrize("how", [[], ["--optimizer", "muon", "--ema", "0.9"]])
def test_zeros_stay_zero_in_a_training_and_a_resumed_one_keeps_them_too(
    how: list[str], trained: Path, verses: Path, typed: Typed
) -> None:
    assert typed("prune", trained, "--share", "0.8", "--out", "new", "--json")[0] == 0
    begin = ["train", verses, "--init-from", "new", "--keep-zeros", "--steps", "6", "--dropout", "0.1", *how, "--quiet"]
    assert typed(*begin, "--out", "at-once")[0] == 0
    assert typed(*begin, "--out", "in-two", "--stop-after", "3")[0] == 0
    assert typed("train", "--resume", "in-two", "--quiet")[0] == 0
    once, twice, before = (load_file(Path(run, "last.safetensors")) for run in ("at-once", "in-two", "new"))
    assert all(torch.equal(once[name], twice[name]) for name in once)
    for name, places in zero_places("new", "model.safetensors").items():
        assert torch.equal(once[name] == 0, places)
        assert not torch.equal(once[name], before[name])


def test_retraining_wins_back_some_of_what_pruning_cost(trained: Path, typed: Typed) -> None:
    code, out, _ = typed("prune", trained, "--share", "0.8", "--out", "new", "--minutes", "0.03", "--json")
    assert code == 0
    figures = json.loads(out)
    assert figures["retrained_bits_per_byte"] < figures["pruned_bits_per_byte"]
    assert figures["before_bits_per_byte"] < figures["pruned_bits_per_byte"]
    for places in zero_places("new", "last.safetensors").values():
        assert int(places.sum()) == round(0.8 * places.numel())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--share", "1", "--out", "new"], "--share must be above 0 and below 1, such as 0.5, got 1"),
        (["--out", "."], "exists already; give another --out"),
        (["--minutes", "0", "--out", "new"], "--minutes must be above 0"),
    ],
)
def test_what_cannot_be_pruned_is_refused(words: list[str], message: str, trained: Path, typed: Typed) -> None:
    Path("something").write_text("")
    code, _, err = typed("prune", trained, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not Path("new").exists()
