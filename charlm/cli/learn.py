"""`charlm learn`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Annotated

import typer
from rich.markdown import Markdown

from charlm.lessons import ANSWER, Block, Command, Lesson, all_lessons, find
from charlm.views.console import note, out, show, table

GO_ON = "Enter goes on, q ends"
RUN = "Enter runs it, s skips it, q ends"
SOLVE = "Enter shows the answer, q ends"


def learn(
    number: Annotated[
        int | None, typer.Argument(help="lesson to read \\[default: list them]", show_default=False)
    ] = None,
) -> None:
    if number is None:
        rows = table(">", "lesson", "question")
        for lesson in all_lessons():
            rows.add_row(str(lesson.number), lesson.title.partition(". ")[2], lesson.question)
        show(rows)
        out.print("next: charlm learn 1", markup=False)
        return
    lesson = find(number)
    if sys.stdin.isatty() and sys.stdout.isatty():
        walk(lesson)
    else:
        print(lesson.text, end="")


def walk(lesson: Lesson) -> None:
    """Show a lesson block by block, and offer to run its commands; the reader's keys say when to go on."""
    for block, after in zip(lesson.blocks, [*lesson.blocks[1:], None], strict=True):
        for command in block.commands:
            out.print(f"\n$ {command.line}", markup=False, style="bold green")
            while (answer := asked(RUN)) not in ("", "s"):
                pass  # a stray line runs nothing
            if not answer:
                run(command)
        if not block.commands:
            out.print(Markdown(block.markdown))
        if after and (words := pause(block, after)):
            asked(words)
        out.print()


def pause(block: Block, after: Block) -> str:
    """What to ask between two blocks; nothing where they belong together, such as a formula with what leads to it."""
    if after.kind == "heading":
        return SOLVE if after.markdown.endswith(ANSWER) else GO_ON
    return "" if block.kind == "heading" or block.commands or after.kind == "fence" else GO_ON


def asked(words: str) -> str:
    """What the reader types. Ends the command for `q` and at the end of the input."""
    try:
        answer = out.input(f"[dim]{words}[/] ").strip().lower()
    except EOFError:
        raise typer.Exit from None
    if answer == "q":
        raise typer.Exit
    return answer


def run(command: Command) -> None:
    """Run a command of a lesson in a process of its own, which shows what it has to say.

    It sees no CUDA GPU: on one a training takes a larger network, and the lesson's numbers would not hold.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    typed = [sys.executable, "-m", "charlm", *command.words]
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command, which ends by itself
    try:
        code = subprocess.run(typed, input=command.said, env=environment, encoding="utf-8", check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    if code:
        note(f"that ended with exit code {code}; the lesson goes on")
