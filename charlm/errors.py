"""Errors that the user can do something about.

CharlmError            shown as one line, exit code 2
├── SettingsError      a setting is out of bounds, unknown, or contradicts another
├── CorpusError        a text cannot be read, is too small, or cannot be downloaded
├── VocabularyError    a text holds characters that the tokenizer does not know
└── RunError           a run folder is missing, damaged, or belongs to something else

A message says what was given, what is allowed, and what to do. Anything else that is raised is a bug and keeps its
traceback.
"""

from __future__ import annotations

from copy import copy
from typing import Any, TypeVar

E = TypeVar("E", bound="CharlmError")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory could not be allocated; errors of PyTorch are recognised by their names and messages."""
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "allocate memory" in str(error)


def as_typed(value: Any) -> str:
    """The value of a setting as it would be typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


class CharlmError(Exception):
    """Base of all errors that are meant for the user."""

    def at(self: E, place: str) -> E:
        """The same error with `place: ` before its message."""
        error = copy(self)
        error.args = (f"{place}: {self}",)
        return error


class SettingsError(CharlmError):
    """A setting is out of bounds, unknown, or contradicts another. `field` is its name, if there is just one."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class CorpusError(CharlmError):
    """A text cannot be read, is too small, or cannot be downloaded."""


class VocabularyError(CharlmError):
    """A text holds characters that the tokenizer does not know."""


class RunError(CharlmError):
    """A run folder is missing, damaged, or belongs to something else."""
