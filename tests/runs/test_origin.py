"""A training that starts with the weights of a run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import train_on_verses
from texts import VERSES

from charlm import archs
from charlm.config import fields_of
from charlm.runs.origin import FREE, GENTLY

Typed = Callable[..., tuple[int, str, str]]
OTHER = VERSES.replace("broth", "bread").replace("bench", "bed") * 2


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.txt"
    path.write_text(OTHER)
    return path


def weights(run: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(run, "last.safetensors"))


@pytest.mark.parametrize("average", [[], ["--ema", "0.9"]])
def test_a_training_starts_with_the_weights_and_the_vocabulary_of_another(
    average: list[str], trained: Path, other: Path, typed: Typed
) -> None:
    command = ["train", other, "--init-from", trained, "--steps", "1", "--lr", "0", "--out", "run"]
    code, out, _ = typed(*command, *average)
    assert code == 0
    before, after = load_file(trained / "model.safetensors"), weights("run")
    size = sum(t.numel() for t in before.values())
    assert f"starts with the {size:,} weights of {trained}, step 60; the optimizer begins anew" in out
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (trained / "tokenizer.json").read_text() == Path("run/tokenizer.json").read_text()
    config = json.loads(Path("run/config.json").read_text())
    assert config["origin"] == {"run": str(trained.resolve()), "weights": "model.safetensors"}


def test_it_goes_on_exactly_and_without_the_run_that_it_started_from(trained: Path, other: Path, typed: Typed) -> None:
    shutil.copytree(trained, "start")
    begin = ["train", other, "--init-from", "start", "--steps", "6", "--dropout", "0.1", "--quiet", "--out"]
    assert typed(*begin, "at-once")[0] == 0
    assert typed(*begin, "in-two", "--stop-after", "3")[0] == 0
    shutil.rmtree("start")
    shutil.rmtree("cache")
    assert typed("train", "--resume", "in-two", "--quiet")[0] == 0
    once, twice = weights("at-once"), weights("in-two")
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert json.loads(Path("in-two/config.json").read_text())["origin"]["run"].endswith("start")


def test_sizes_come_from_the_run_and_a_quarter_of_its_rate_is_the_default(
    trained: Path, other: Path, typed: Typed
) -> None:
    assert typed("train", other, "--init-from", trained, "--steps", "1", "--out", "run", "--quiet")[0] == 0
    before, after = (json.loads(Path(run, "config.json").read_text()) for run in (trained, "run"))
    assert after["model"] == before["model"]
    assert after["train"]["lr"] == pytest.approx(GENTLY * before["train"]["lr"])
    assert after["train"]["seq_len"] == before["train"]["seq_len"]
    shown = " ".join(typed("train", other, "--init-from", trained, "--help")[1].replace("│", "").split())
    assert "Architecture: lstm" in shown
    assert re.search(r"--lr [^-]*peak learning rate \[default: 0.0025\]", shown)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hidden-size", "64"], "--hidden-size 64 is not that of RUN, 48, and its weights are for that network"),
        (["--arch", "gru"], "--arch gru is not that of RUN, lstm, and its weights are for that network"),
        (["--preset", "tiny"], "preset tiny: --hidden-size 128 is not that of RUN, 48"),
        (["--tokenizer", "byte"], "--tokenizer byte is not that of RUN, char, and its weights are for that tokenizer"),
        (["--resume", "RUN"], "--resume takes text and settings from the run"),
    ],
)
def test_what_would_make_the_weights_senseless_is_refused(
    words: list[str], message: str, trained: Path, other: Path, typed: Typed
) -> None:
    given = [word.replace("RUN", str(trained)) for word in words]
    code, _, err = typed("train", other, "--init-from", trained, *given, "--out", "run")
    assert (code, err.count("\n")) == (2, 1)
    assert message.replace("RUN", str(trained)) in err
    assert not Path("run").exists()


def test_a_missing_run_a_damaged_one_and_another_kind_of_data_are_refused(
    trained: Path, translator: Path, other: Path, typed: Typed
) -> None:
    assert "no run 'nowhere'" in typed("train", other, "--init-from", "nowhere")[2]
    shutil.copytree(trained, "hurt")
    Path("hurt/model.safetensors").write_bytes(b"")
    assert "model.safetensors is damaged" in typed("train", other, "--init-from", "hurt", "--out", "run")[2]
    code, _, err = typed("train", other, "--init-from", translator, "--out", "run")
    assert code == 2
    assert "was trained on pairs of source and target, and these files hold running text" in err
    assert not Path("run").exists()


def test_a_text_that_the_vocabulary_cannot_spell_is_refused(trained: Path, tmp_path: Path, typed: Typed) -> None:
    strange = tmp_path / "strange.txt"
    strange.write_text("Ω" * 3000)
    code, _, err = typed("train", strange, "--init-from", trained, "--out", "run")
    assert code == 2
    assert "the vocabulary lacks 'Ω'" in err


def test_of_learned_positions_fewer_may_be_taken_and_not_more(tmp_path: Path, other: Path, typed: Typed) -> None:
    small = {"arch": "transformer", "positions": "learned", "hidden_size": 32, "layers": 1, "seq_len": 24, "steps": 2}
    train_on_verses(tmp_path, **small)
    start = ["train", other, "--init-from", tmp_path / "run", "--steps", "1", "--out", "shorter", "--seq-len"]
    code, out, _ = typed(*start, "16", "--lr", "0")
    assert code == 0
    assert "the first 16 of 24 positions" in out
    before, after = (weights(run)["positions.embed.weight"] for run in (tmp_path / "run", "shorter"))
    assert torch.equal(before[:16], after)
    code, _, err = typed(*start[:-2], "longer", "--seq-len", "32")
    assert code == 2
    assert "has learned 24 positions and 32 are asked for" in err


def test_only_what_is_dropped_may_change() -> None:
    for name in archs.names():
        for field in fields_of(archs.load(name).Config):
            assert (field.name in FREE) == ("drop" in field.name)
