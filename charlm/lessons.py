"""The lessons of the course, read from their Markdown files.

A lesson is a file `NN-name.md`: a title, its question as a quotation, and sections, of which the last one is the
answer to the exercise. A block of `sh` holds what is to be typed, a command a line: `charlm …`, or
`echo "…" | charlm …`.
"""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

from charlm.errors import SettingsError
from charlm.files import shipped

ANSWER = "Answer"


class Command(NamedTuple):
    """One line to be typed."""

    line: str

    @property
    def words(self) -> list[str]:
        """What stands after `charlm`."""
        words = shlex.split(self.line)
        return words[words.index("charlm") + 1 :]

    @property
    def said(self) -> str | None:
        """What `echo` says to the command on standard input; None if nothing is piped in."""
        words = shlex.split(self.line)
        return f"{words[1]}\n" if words[0] == "echo" else None


class Block(NamedTuple):
    """A block of a lesson, such as a paragraph, a table or a heading, or one of commands."""

    markdown: str
    kind: str  # markdown-it's name: heading, paragraph, table, fence, …
    commands: tuple[Command, ...] = ()


class Lesson:
    """One file of the course."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = int(path.name.partition("-")[0])
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks in their order; a list or a table is one."""
        lines, blocks = self.text.splitlines(), []
        for token in MarkdownIt("commonmark").enable("table").parse(self.text):
            if token.level or token.map is None:  # a part of a block, or its end
                continue
            typed = token.content.splitlines() if token.info == "sh" else []
            markdown = "\n".join(lines[slice(*token.map)]).strip()
            blocks.append(Block(markdown, token.type.removesuffix("_open"), tuple(map(Command, typed))))
        return blocks

    @property
    def title(self) -> str:
        return self.blocks[0].markdown.lstrip("# ")

    @property
    def question(self) -> str:
        """The quotation under the title, in one line."""
        return " ".join(line.lstrip("> ") for line in self.blocks[1].markdown.splitlines())

    @property
    def commands(self) -> list[Command]:
        return [command for block in self.blocks for command in block.commands]

    def section(self, heading: str) -> list[Block]:
        """The blocks under this heading, up to the next one; none if there is no such heading."""
        blocks: list[Block] = []
        inside = False
        for block in self.blocks:
            if block.kind == "heading":
                inside = block.markdown.lstrip("# ") == heading
            elif inside:
                blocks.append(block)
        return blocks


def all_lessons() -> list[Lesson]:
    """The lessons in their order. Raises `SettingsError` if the installation lacks them."""
    lessons = [Lesson(path) for path in sorted(shipped("docs/course").glob("[0-9][0-9]-*.md"))]
    if not lessons:
        raise SettingsError("the course is missing from this installation; install charlm again")
    return lessons


def find(number: int) -> Lesson:
    """The lesson of this number. Raises `SettingsError`, with the numbers that exist."""
    lessons = {lesson.number: lesson for lesson in all_lessons()}
    if number not in lessons:
        raise SettingsError(f"there is no lesson {number}; there are {min(lessons)} to {max(lessons)}: charlm learn")
    return lessons[number]
