"""CONTRIBUTING.md's promises: one file, no other edit, and it is trained, sampled and held to the law; what CI says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_archs as law

from charlm import archs
from charlm.cli.app import run

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def fading(tmp_path: Path) -> Iterator[str]:
    """The page's example, saved as a person would save it; in a folder beside the real ones, to leave those alone."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    (tmp_path / "fading.py").write_text(code.group(1), encoding="utf-8")
    archs.__path__.append(str(tmp_path))
    yield "fading"
    archs.__path__.remove(str(tmp_path))


def test_the_example_is_trained_and_writes_from_the_command_line(
    fading: str, verses: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["archs"]) == 0
    assert "Fading bag of words" in capfd.readouterr().out
    assert run(["train", str(verses), "--arch", fading, "--hidden-size", "24", "--steps", "40", "--quiet"]) == 0
    assert run(["sample", "--length", "20"]) == 0
    assert len(capfd.readouterr().out) == 21


def test_the_example_keeps_the_law(fading: str, tmp_path: Path) -> None:
    law.test_a_guess_for_every_token(fading)
    for read in (0, 3, 40):
        law.test_text_in_pieces_means_the_same_as_text_at_once(fading, read)
    law.test_a_step_is_features_of_one_token(fading)
    law.test_no_guess_sees_the_future(fading)
    law.test_state_is_batch_first_and_what_is_carried_is_cut_from_the_graph(fading)
    law.test_a_row_does_not_depend_on_its_batch(fading)
    law.test_every_parameter_learns(fading)
    law.test_stopping_and_resuming_changes_nothing(fading, {}, tmp_path)
    law.test_the_file_names_its_paper_and_the_settings_their_bounds(fading)


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
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert "2 failed, 1 skipped, 1 warning, 1 error" in done.stdout, done.stdout + done.stderr
    assert "--nothing-skipped: Skipped: there is no printer" in done.stdout
    assert "there is no GPU" in done.stdout
