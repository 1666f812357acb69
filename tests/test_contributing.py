"""CONTRIBUTING.md's promises: one file, no other edit, and it is trained, used and held to the law; what CI says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import test_archs as law

from charlm import archs, objectives
from charlm.runs import checkpoint

Typed = Callable[..., tuple[int, str, str]]

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def examples(beside: Callable[[ModuleType, str, str], None]) -> None:
    """The page's, saved as a person would save them."""
    codes = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    files = {"fading": archs, "blanks": objectives, "neighbours": archs}
    for (name, package), code in zip(files.items(), codes, strict=True):
        beside(package, name, code)


@pytest.mark.usefixtures("examples")
def test_the_language_model_is_trained_and_writes_from_the_command_line(verses: Path, typed: Typed) -> None:
    assert "Fading bag of words" in typed("archs")[1]
    assert typed("train", verses, "--arch", "fading", "--hidden-size", "24", "--steps", "40", "--quiet")[0] == 0
    code, text, _ = typed("sample", "--length", "20")
    assert (code, len(text)) == (0, 21)


@pytest.mark.usefixtures("examples")
def test_the_objective_with_its_symbol_is_trained_resumed_scored_and_compared(verses: Path, typed: Typed) -> None:
    """With the encoder that it needs. The blank is no token: the vocabulary does not grow, the embedding does."""
    train = ["train", verses, "--arch", "neighbours", "--hidden-size", "16", "--eval-every", "20", "--out", "a"]
    assert typed(*train, "--steps", "40", "--share", "0.2", "--stop-after", "20")[0] == 0
    code, said, _ = typed("train", "--resume", "a")
    assert code == 0
    assert "nats/blank" in said
    code, said, _ = typed("eval", "a", "--json")
    assert code == 0
    score = json.loads(said)
    assert 1.0 < score["nats_per_blank"] < 3.5
    assert "bits_per_byte" not in score
    config = json.loads(Path("a/config.json").read_text())
    assert config["objective"] == {"blanks": {"share": 0.2}}
    saved = checkpoint.load_tensors(Path("a/model.safetensors"), lambda *_: True)[0]
    vocabulary = len(json.loads(Path("a/tokenizer.json").read_text())["characters"])
    assert len(saved["embed.weight"]) == len(saved["head.weight"]) + 1 == vocabulary + 1
    asked = [
        "compare",
        verses,
        "--arch",
        "neighbours:hidden_size=8,neighbours:hidden_size=16:share=0.3",
        "--steps",
        "20",
    ]
    code, table, _ = typed(*asked, "--seeds", "1")
    assert code == 0
    assert "nats/blank" in table
    code, _, why = typed("compare", verses, "--arch", "neighbours,lstm", "--steps", "5")
    assert code == 2
    assert "nats/blank" in why
    assert "bits/byte" in why


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("goal", ["masked", "replaced"])
def test_the_encoder_is_trained_for_other_objectives_too(goal: str, verses: Path, typed: Typed) -> None:
    train = ["train", verses, "--arch", "neighbours", "--hidden-size", "16", "--steps", "40", "--out", "a"]
    assert typed(*train, "--objective", goal, "--quiet")[0] == 0
    code, out, _ = typed("fill", "a", "The l[MASK]mp", "--json", "--top", "1000")
    assert code == 0
    assert sum(guess["share"] for guess in json.loads(out)["gaps"][0]["guesses"]) == pytest.approx(1)


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["train", "{text}", "--arch", "lstm", "--objective", "blanks"], "--objective blanks is not for lstm"),
        (
            ["train", "{text}", "--arch", "neighbours", "--objective", "causal"],
            "--objective causal is not for neighbours",
        ),
        (["train", "{text}", "--objective", "blank"], "unknown objective 'blank' (did you mean blanks?)"),
        (["train", "{text}", "--share", "0.2"], "--share"),
        (["sample", "trained"], "cannot go on with a text"),
    ],
)
def test_what_an_architecture_cannot_do_is_refused(words: list[str], why: str, verses: Path, typed: Typed) -> None:
    typed("train", verses, "--arch", "neighbours", "--hidden-size", "8", "--steps", "2", "--out", "trained", "--quiet")
    code, _, said = typed(*(word.format(text=verses) for word in words))
    assert code == 2
    assert why in said


@pytest.mark.usefixtures("examples")
def test_the_examples_keep_the_law(tmp_path: Path) -> None:
    law.test_a_guess_for_every_token("fading")
    for read in (0, 3, 40):
        law.test_text_in_pieces_means_the_same_as_text_at_once("fading", read, grad=True)
    law.test_a_blank_page_is_where_a_text_begins("fading")
    law.test_a_state_may_be_used_twice("fading")
    law.test_a_stepper_is_features_of_one_token("fading")
    law.test_no_guess_sees_the_future("fading")
    law.test_what_is_carried_is_batch_first_cut_from_the_graph_and_of_the_shapes_of_a_blank_page("fading")
    law.test_a_row_does_not_depend_on_its_batch("fading")
    for arch in ("fading", "neighbours"):
        law.test_it_has_one_ability_and_keeps_its_laws(arch)
        law.test_its_stages_hold_every_weight_from_the_embedding_to_the_head(arch)
        law.test_symbols_can_be_fed_and_are_never_guessed(arch)
        law.test_every_parameter_learns(arch)
        law.test_weights_survive_a_file(arch, tmp_path)
        law.test_bf16_learns_too_or_is_refused(arch)
        law.test_stopping_and_resuming_changes_nothing(arch, {}, tmp_path)
        law.test_the_file_names_its_paper_and_the_settings_their_bounds(arch)


def test_other_plugins_may_warn_but_a_warning_in_a_test_and_in_ci_a_skip_are_failures(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "def pytest_configure(config): config.issue_config_time_warning(UserWarning(), 2)"
    )
    (tmp_path / "test_some.py").write_text(
        "import warnings, pytest\n"
        "def test_warns(): warnings.warn('old')\n"
        "def test_without_a_gpu(): pytest.skip('there is no GPU')\n"
        "def test_without_something_else(): pytest.skip('there is no printer')\n"
    )
    (tmp_path / "test_none.py").write_text("import pytest\npytest.importorskip('no_such_library')\n")
    (tmp_path / "pytest.ini").touch()
    command = ["-p", "conftest", "-p", "noisy", "--nothing-skipped", "--continue-on-collection-errors", "-rs"]
    paths = [str(Path(__file__).parent), str(tmp_path), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert "2 failed, 1 skipped, 1 warning, 1 error" in done.stdout, done.stdout + done.stderr
    assert "--nothing-skipped: Skipped: there is no printer" in done.stdout
    assert "there is no GPU" in done.stdout
