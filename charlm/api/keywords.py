"""Messages in Python's spelling.

A message names options as a command line has them, `--beam 3`. Here they become keywords, `beam=3`. What is a whole
command line, such as `charlm train FILE --arch bert`, stays one: it is for a shell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from charlm import archs, kinds, objectives
from charlm.config import Settings, TrainSettings, fields_of, setting, without_none
from charlm.errors import CharlmError
from charlm.runs.opening import Opening

P = ParamSpec("P")
R = TypeVar("R")

COMMAND = re.compile(r"(charlm [a-z]+(?:(?! or | and )[^;,()])*)")
OPTION = re.compile(r"--([a-z][a-z0-9-]*)")
VALUE = re.compile(r" (-?\d[\w.+-]*\b|'[^']*'|[A-Z]+\b)")  # a number, a quoted text, or what stands for a value: FILE
WORD = re.compile(r" ([a-z0-9-]+)")
NEXT = re.compile(r",? (?:or |and )?([a-z0-9-]+)")


@cache
def choices() -> dict[str, frozenset[str]]:
    """The words that each setting can be, by its name."""
    networks = [archs.load(name).Config for name in archs.names()]
    groups: list[type[Settings]] = [TrainSettings, Opening, *(kind.Settings for kind in kinds.all_kinds()), *networks]
    words = {"arch": frozenset(archs.names()), "objective": frozenset(objectives.names())}
    for group in [*groups, *(objectives.load(name) for name in objectives.names())]:
        for field in fields_of(group):
            kind, _ = without_none(field.type)
            if get_origin(kind) is Literal:
                words[field.name] = words.get(field.name, frozenset()) | {*get_args(kind)}
    return words


def in_keywords(message: str) -> str:
    """The message with the options that it names as keywords."""
    parts = COMMAND.split(message)
    return "".join(part if number % 2 else keywords(part) for number, part in enumerate(parts))


def keywords(text: str) -> str:
    """A text without command lines: an option and its value become one word, an option alone its name."""
    out, end = [], 0
    for option in OPTION.finditer(text):
        name = setting(option[0])
        out += [text[end : option.start()], name]
        end = option.end()
        if value := VALUE.match(text, end):
            out.append(f"={value[1]}")
            end = value.end()
        elif (word := WORD.match(text, end)) and word[1] in choices().get(name, ()):
            following = NEXT.match(text, word.end())
            several = following is not None and following[1] in choices()[name]
            out.append(f" {word[1]}" if several else f"={word[1]!r}")
            end = word.end()
    return "".join([*out, text[end:]])


@contextmanager
def keyword_errors() -> Iterator[None]:
    """Errors of the house name keywords."""
    try:
        yield
    except CharlmError as error:
        error.args = (in_keywords(str(error)), *error.args[1:])
        raise


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose errors name keywords."""

    @wraps(function)
    def called(*args: P.args, **values: P.kwargs) -> R:
        with keyword_errors():
            return function(*args, **values)

    return called


def name_of(named: Any) -> str:
    """A path or a name as a text; of an open run the path of its folder."""
    return str(getattr(named, "path", named))


def names_of(named: Any) -> list[str] | None:
    """One of these or several, as a list of texts; None for none."""
    if named is None:
        return None
    return [name_of(one) for one in (named if isinstance(named, (list, tuple)) else [named])]
