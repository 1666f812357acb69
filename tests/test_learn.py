"""The course: every lesson is whole, its commands exist and run in their order, and `charlm learn` walks through it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from charlm import __version__
from charlm.cli.app import build
from charlm.cli.learn import walk
from charlm.errors import SettingsError
from charlm.lessons import ANSWER, Command, Lesson, all_lessons, find

Typed = Callable[..., tuple[int, str, str]]
Heard = Callable[[str], None]

LESSONS = all_lessons()
BUDGETS = {"--steps", "--minutes", "--epochs"}
SMALL = """# 1. A small one

> Is it small?

## The idea

It is.

## Try it

```sh
charlm --version
echo "no training" | charlm train - --steps 1
charlm info nothing
charlm runs
```

## Exercise

How small?

## Answer

So small.
"""

every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.path.stem)


def parsed(words: list[str]) -> dict[str, Any]:
    """The values of a command line's options, as the command would get them; nothing is run."""
    command: Any = typer.main.get_command(build(words))
    context = command.make_context("charlm", list(words))
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, words, parent=context)
    values: dict[str, Any] = context.params
    return values


def short(words: list[str]) -> list[str]:
    """The command with a budget of three steps, if it has a budget."""
    budgets = [place for place, word in enumerate(words) if word in BUDGETS]
    for place in budgets:
        words = [*words[:place], "--steps", "3", *words[place + 2 :]]
    return words


def test_the_course_has_ten_lessons_in_their_order() -> None:
    assert [lesson.number for lesson in LESSONS] == list(range(1, 11))
    assert [lesson.title.partition(". ")[0] for lesson in LESSONS] == [str(lesson.number) for lesson in LESSONS]


@every_lesson
def test_a_lesson_asks_explains_is_typed_says_what_to_expect_and_answers(lesson: Lesson) -> None:
    assert lesson.question.endswith("?")
    headings = [block.markdown for block in lesson.blocks if block.kind == "heading"][1:]
    assert headings == [f"## {name}" for name in ("The idea", "Try it", "What to expect", "Exercise", ANSWER)]
    assert len(lesson.section("The idea")) >= 3
    assert len(lesson.commands) >= 3
    assert lesson.commands == [command for block in lesson.section("Try it") for command in block.commands]
    (table,) = (block.markdown for block in lesson.section("What to expect") if block.kind == "table")
    rows = table.splitlines()[2:]
    assert len(rows) >= 4
    assert all(re.search(r"[\d,.]+ ± [\d,.]+", row) for row in rows)
    assert all(lesson.section(name) for name in ("Exercise", ANSWER))
    lines = lesson.text.splitlines()
    assert 60 <= len(lines) <= 150
    assert max(map(len, lines)) <= 200


@every_lesson
def test_every_option_of_a_lessons_commands_exists(lesson: Lesson, trained: Path) -> None:
    """The options of a training that starts from a run are those of its architecture, so such a run is there."""
    for command in lesson.commands:
        words = command.words
        if "--init-from" in words:
            start = words[words.index("--init-from") + 1].partition(",")[0]
            shutil.copytree(trained, Path("runs", start), dirs_exist_ok=True)
        assert parsed(words)


def test_an_option_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(typer.TyperException, match="--wings"):
        parsed(["train", "play.txt", "--wings", "2"])
    with pytest.raises(typer.TyperException, match="--wings"):
        parsed(["corpus", "make", "reverse", "--wings", "2"])


@pytest.mark.slow
def test_the_commands_of_all_lessons_run_one_after_the_other(typed: Typed, heard: Heard) -> None:
    """In one folder, so that a lesson has the runs of those before it; a budget of training is three steps."""
    for lesson in LESSONS:
        for command in lesson.commands:
            heard(command.said or "")
            code, _, said = typed(*short(command.words))
            assert code == 0, f"lesson {lesson.number}: {command.line}: {said}"


def test_a_budget_is_shortened_whatever_it_is_counted_in() -> None:
    assert short(["train", "a.txt", "--epochs", "4", "--out", "a"]) == ["train", "a.txt", "--steps", "3", "--out", "a"]
    assert short(["compare", "a.txt", "--minutes", "2"]) == ["compare", "a.txt", "--steps", "3"]
    assert short(["runs"]) == ["runs"]


def test_a_command_knows_what_is_typed_and_what_is_piped_in() -> None:
    assert Command('charlm sample --prompt "a | b"') == ('charlm sample --prompt "a | b"',)
    assert Command('charlm sample --prompt "a | b"').words == ["sample", "--prompt", "a | b"]
    assert Command('charlm sample --prompt "a | b"').said is None
    piped = Command('echo "Grün, ja." | charlm translate --beam 5')
    assert (piped.words, piped.said) == (["translate", "--beam", "5"], "Grün, ja.\n")


def test_the_lessons_are_listed_with_their_questions_and_one_is_printed_in_a_pipe(typed: Typed) -> None:
    code, listed, _ = typed("learn")
    assert code == 0
    assert all(lesson.question in listed for lesson in LESSONS)
    assert typed("learn", "3") == (0, LESSONS[2].path.read_text(encoding="utf-8"), "")
    code, _, why = typed("learn", "99")
    assert code == 2
    assert "there is no lesson 99; there are 1 to 10" in why


def test_a_lesson_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="no lesson 0"):
        find(0)


def walked(keys: list[str], folder: Path, heard: Heard, capfd: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What a reader sees, on both streams, who types these words, each with Enter."""
    path = folder / "01-small.md"
    path.write_text(SMALL, encoding="utf-8")
    heard("".join(f"{key}\n" for key in keys))
    with suppress(typer.Exit):
        walk(Lesson(path))
    shown = capfd.readouterr()
    return shown.out, shown.err


def test_enter_runs_what_a_lesson_says_and_s_skips_it(
    tmp_path: Path, heard: Heard, capfd: pytest.CaptureFixture[str]
) -> None:
    seen, noted = walked(["", "", "", "", "", "s", "", ""], tmp_path, heard, capfd)
    for words in ("A small one", "Is it small?", "$ charlm --version", "$ charlm runs", "How small?", "So small."):
        assert words in seen, words
    assert f"charlm {__version__}" in seen
    assert "run: runs/stdin-lstm" in seen
    assert "exit code 2; the lesson goes on" in noted
    assert "bits/byte  " not in seen.partition("$ charlm runs")[2]


def test_q_and_the_end_of_the_input_end_a_lesson_and_the_answer_waits(
    tmp_path: Path, heard: Heard, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "The idea" not in walked(["q"], tmp_path, heard, capfd)[0]
    seen, _ = walked(["", "", "s", "s", "s", "s", ""], tmp_path, heard, capfd)
    assert "How small?" in seen
    assert "So small." not in seen
