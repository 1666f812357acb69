"""Run folders: whole or refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import charlm
from charlm.errors import RunError, SettingsError
from charlm.files import replacing
from charlm.runs import checkpoint, folder


@pytest.fixture
def run(trained: Path) -> Path:
    shutil.copytree(trained, "runs/mine")
    return Path("runs/mine")


def test_a_run_is_its_folder_and_nothing_else(run: Path) -> None:
    """It moves, and writes without the text that it was trained on."""
    shutil.move(run, "elsewhere")
    assert len(charlm.load("elsewhere").sample("PEG", length=20, seed=1)) == 20


def test_weights_are_best_or_last(run: Path) -> None:
    assert charlm.load(run, weights="last").model is not None
    with pytest.raises(SettingsError, match="weights must be one of best, last, got 'newest'"):
        charlm.load(run, weights="newest")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_or_broken_json_is_named(run: Path, name: str) -> None:
    whole = (run / name).read_text()
    (run / name).write_text(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=f"{name} cannot be read"):
        charlm.load(run)
    (run / name).unlink()
    with pytest.raises(RunError, match=f"{name} is missing|no run"):
        charlm.load(run)


def test_damaged_weights_are_refused(run: Path) -> None:
    path = run / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-10], b"\xff" * 100 + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"model.safetensors is damaged"):
            charlm.load(run)


def test_weights_of_another_shape_are_refused_by_name(run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    checkpoint.save_tensors(run / "model.safetensors", {**tensors, "head.bias": torch.zeros(3)}, {})
    with pytest.raises(RunError, match=r"does not fit its config.json: it has no head.bias of shape \(3,\)"):
        charlm.load(run)
    del tensors["head.bias"]
    checkpoint.save_tensors(run / "model.safetensors", tensors, {})
    with pytest.raises(RunError, match=r"head.bias is missing"):
        charlm.load(run)


def test_another_vocabulary_is_refused(run: Path) -> None:
    described = folder.read_json(run / "tokenizer.json")
    described["characters"] = list(reversed(described["characters"]))
    folder.write_json(run / "tokenizer.json", described)
    with pytest.raises(RunError, match="is not the vocabulary that this run was trained with"):
        charlm.load(run)


def test_a_run_of_another_charlm_is_refused(run: Path) -> None:
    config = folder.read_json(run / "config.json")
    folder.write_json(run / "config.json", config | {"format": folder.FORMAT + 1, "charlm": "9.9"})
    with pytest.raises(RunError, match=r"made by another charlm \(9.9\)"):
        charlm.load(run)


@pytest.mark.usefixtures("run")
def test_a_misspelt_run_gets_a_suggestion() -> None:
    with pytest.raises(RunError, match=r"no run 'mien' \(did you mean 'mine'\?\)"):
        charlm.load("mien")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    folder.write_json(path, {"a": 1})

    def fail_halfway() -> None:
        with replacing(path) as beside:
            beside.write_text("{half")
            raise OSError("disk full")

    with pytest.raises(RunError, match=r"f\.json cannot be written: disk full"):
        fail_halfway()
    assert folder.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_nothing_is_ever_unpickled() -> None:
    files = list(Path(charlm.__file__).parent.rglob("*.py"))
    assert len(files) > 100
    for path in files:
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(import|from) (c?pickle|shelve|marshal)\b|\bpickle\.|allow_pickle", source), path
        assert "torch.load" not in source


def test_a_state_survives_being_flattened() -> None:
    state = (torch.ones(2), (torch.zeros(1), torch.arange(3)))
    flat = checkpoint.flatten("carried", state)
    assert set(flat) == {"carried/0", "carried/1/0", "carried/1/1"}
    back = checkpoint.unflatten("carried", flat, state)
    assert torch.equal(back[1][1], torch.arange(3))
    single = checkpoint.flatten("carried", torch.ones(4))
    assert torch.equal(checkpoint.unflatten("carried", single, torch.zeros(4)), torch.ones(4))
    assert checkpoint.unflatten("carried", checkpoint.flatten("carried", ()), ()) == ()
