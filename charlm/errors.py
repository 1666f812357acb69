"""What can go wrong in a way that a person can mend.

CharlmError            shown as one line, exit code 2
├── SettingsError      a setting is out of bounds, unknown, or contradicts another
├── CorpusError        a text cannot be read, is too small, or cannot be downloaded
├── VocabularyError    a text holds characters that the tokenizer does not know
└── RunError           a run folder is missing, damaged, or belongs to something else

A message says what was given, what is allowed, and what to do. Anything else that is raised is a bug and keeps its
traceback.
"""

from __future__ import annotations


def out_of_memory(error: BaseException) -> bool:
    """Whether it tells of memory that could not be had; PyTorch's kinds are known by their names and words."""
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "allocate memory" in str(error)


class CharlmError(Exception):
    """Base of all errors meant for the person at the keyboard."""


class SettingsError(CharlmError):
    """A setting is out of bounds, unknown, or contradicts another."""


class CorpusError(CharlmError):
    """A text cannot be read, is too small, or cannot be downloaded."""


class VocabularyError(CharlmError):
    """A text holds characters that the tokenizer does not know."""


class RunError(CharlmError):
    """A run folder is missing, damaged, or belongs to something else."""
