"""Text files that others wrote: only regular ones are opened, and no more is read than such files have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from charlm.errors import RunError
from charlm.files import bounded


def read_text(path: Path) -> str:
    """Raises `RunError` for a file that is missing or no text."""
    try:
        return bounded(path).decode("utf-8")
    except FileNotFoundError:
        raise RunError(f"{path.parent} has no {path.name}; a folder of a model for transformers has one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `RunError` if it is missing or none."""
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no JSON object")
    return value


def read_optional(path: Path) -> dict[str, Any]:
    """As `read_json`, but empty if there is no such file."""
    return read_json(path) if path.exists() else {}
