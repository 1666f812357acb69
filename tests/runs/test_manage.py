"""`charlm runs`, `delete` and `rename`: what is being trained, is needed or is no run stays as it is."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm.runs import folder, manage

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(trained: Path) -> Path:
    """runs/one and runs/two."""
    for name in ("one", "two"):
        shutil.copytree(trained, f"runs/{name}")
    return Path("runs")


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def make_student(run: Path, teacher: Path, *, finished: bool) -> None:
    config, training = (folder.read_json(run / name) for name in ("config.json", "training.json"))
    folder.write_json(run / "config.json", config | {"objective": {"distill": {"teacher": str(teacher.resolve())}}})
    folder.write_json(run / "training.json", training | {"finished": finished})


def test_the_list_is_there_as_json_and_as_a_table(runs: Path, typed: Typed) -> None:
    listed = [json.loads(line) for line in typed("runs", "--json")[1].splitlines()]
    rows = list(csv.DictReader(io.StringIO(typed("runs", "--csv")[1])))
    assert [row["run"] for row in rows] == [run["run"] for run in listed] == [str(runs / "one"), str(runs / "two")]
    for row, run in zip(rows, listed, strict=True):
        assert (row["arch"], int(row["params"]), row["corpus"]) == (run["arch"], run["params"], run["corpus"]["name"])
        assert (float(row["score"]), row["unit"]) == (run["training"]["best"]["bits_per_byte"], "bits/byte")
        assert (row["objective"], row["finished"], row["step"]) == ("causal", "True", str(run["training"]["step"]))
    code, _, error = typed("runs", "--csv", "--json")
    assert (code, "give one of them" in error) == (2, True)
    shutil.rmtree(runs)
    assert typed("runs", "--csv")[1].count("\n") == 1
    assert typed("runs", "--json")[1] == ""


def test_all_that_a_training_made_goes_and_it_says_how_much_that_is(runs: Path, typed: Typed) -> None:
    known = sum(path.stat().st_size for path in (runs / "one").iterdir())
    code, out, error = typed("delete", "one", "--yes")
    assert (code, error) == (0, "")
    assert out == f"deleted {runs / 'one'}: {len(os.listdir(runs / 'two'))} files, {known / 1e3:.1f} kB\n"
    assert os.listdir(runs) == ["two"]


def test_several_go_at_once_and_what_is_named_twice_goes_once(runs: Path, typed: Typed) -> None:
    code, out, _ = typed("delete", "one", "runs/two", "runs/one", "-y")
    assert (code, out.count("one"), out.count("two"), os.listdir(runs)) == (0, 1, 1, [])


def test_files_that_no_training_made_stay_with_their_folder(runs: Path, typed: Typed) -> None:
    (runs / "one/notes.txt").write_text("mine")
    (runs / "one/samples").mkdir()
    code, _, error = typed("delete", "one", "--yes")
    assert (code, "stays, with what no training made: notes.txt, samples" in error) == (0, True)
    assert sorted(os.listdir(runs / "one")) == ["notes.txt", "samples"]


def test_of_a_link_in_a_run_only_the_link_goes(runs: Path, typed: Typed) -> None:
    outside = Path("outside.txt")
    outside.write_text("mine")
    (runs / "one/samples.txt").unlink(missing_ok=True)
    (runs / "one/samples.txt").symlink_to(outside.resolve())
    assert typed("delete", "one", "--yes")[0] == 0
    assert (outside.read_text(), os.listdir(runs)) == ("mine", ["two"])


def test_bytes_that_another_name_still_holds_are_not_freed(runs: Path) -> None:
    files = manage.own_files(runs / "one")
    whole = manage.freed(files)
    size = (runs / "one/model.safetensors").stat().st_size
    os.link(runs / "one/model.safetensors", "kept.safetensors")
    assert manage.freed(files) == whole - size


def project(runs: Path) -> None:
    (runs / "one/config.json").write_text('{"name": "a project of mine"}')


def link(runs: Path) -> None:
    shutil.move(runs / "one", "elsewhere")
    (runs / "one").symlink_to(Path("elsewhere").resolve(), target_is_directory=True)


def missing(runs: Path) -> None:
    (runs / "one/config.json").unlink()


def teaches(runs: Path) -> None:
    make_student(runs / "two", runs / "one", finished=False)


@pytest.mark.parametrize("command", [("delete", "--yes"), ("rename", "new")])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (project, "is damaged or was edited"),
        (link, "is a link to"),
        (missing, "no run 'one'"),
        (teaches, "is unfinished and learns from"),
    ],
)
def test_what_may_not_go_stays_byte_for_byte(
    command: tuple[str, str], change: Callable[[Path], None], reason: str, runs: Path, typed: Typed
) -> None:
    change(runs)
    before = contents(Path())
    code, out, error = typed(command[0], "one", command[1])
    assert (code, out, error.count("\n"), reason in error) == (2, "", 1, True), error
    assert contents(Path()) == before | {str(path): b"" for path in Path().rglob(".lock")}


@pytest.mark.parametrize("command", [("delete", "two", "one", "--yes"), ("rename", "one", "new")])
def test_a_run_that_is_being_trained_stays_and_so_do_those_named_with_it(
    command: tuple[str, ...], runs: Path, typed: Typed
) -> None:
    with folder.locked(runs / "one"):
        code, _, error = typed(*command)
    assert (code, "being trained by another process" in error) == (2, True)
    assert sorted(path.name for path in runs.glob("*/config.json")) == ["config.json"] * 2


def test_a_finished_student_does_not_hold_its_teacher_and_both_may_go_together(runs: Path, typed: Typed) -> None:
    make_student(runs / "two", runs / "one", finished=False)
    shutil.copytree(runs, "others")
    assert typed("delete", "one", "two", "--yes")[0] == 0
    shutil.copytree("others", runs, dirs_exist_ok=True)
    make_student(runs / "two", runs / "one", finished=True)
    assert typed("delete", "one", "--yes")[0] == 0


@pytest.mark.parametrize(("answer", "left"), [("n\n", 2), ("\n", 2), ("", 2), ("y\n", 1)])
def test_at_a_terminal_it_asks(
    answer: str, left: int, runs: Path, typed: Typed, heard: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard(answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, out, _ = typed("delete", "one")
    assert (len(os.listdir(runs)), code == 0) == (left, left == 1)
    assert "Delete?" in out


def test_without_a_terminal_nothing_goes_unless_that_was_said(
    runs: Path, typed: Typed, heard: Callable[[str], None]
) -> None:
    heard("y\n")
    code, _, error = typed("delete", "one")
    assert (code, "add --yes" in error, len(os.listdir(runs))) == (2, True, 2)


def test_a_run_gets_another_name_and_is_the_same(runs: Path, typed: Typed) -> None:
    before = {Path(name).name: content for name, content in contents(runs / "one").items()}
    code, out, _ = typed("rename", "one", "a new name")
    assert (code, out) == (0, f"{runs / 'one'} is now {runs / 'a new name'}\n")
    after = {Path(name).name: content for name, content in contents(runs / "a new name").items()}
    assert before == {name: content for name, content in after.items() if name in before}
    assert sorted(os.listdir(runs)) == ["a new name", "two"]


@pytest.mark.parametrize("name", ["two", "last", "best", "..", "a/b", "../two", "-x", ""])
def test_a_name_that_is_taken_or_none_is_refused(name: str, runs: Path, typed: Typed) -> None:
    before = contents(runs)
    code, _, error = typed("rename", "one", "--", name)
    assert (code, error.count("\n")) == (2, 1)
    assert contents(runs) == before


def test_a_comparison_keeps_the_names_of_its_runs(runs: Path, typed: Typed) -> None:
    (runs / "compare.json").write_text("{}")
    assert "belongs to the comparison runs" in typed("rename", "one", "new")[2]
