"""Looking inside a trained run: one file per question, its answer a pure function of a `Writer` and a text."""

from __future__ import annotations

from charlm.config import setting
from charlm.errors import SettingsError


def index_of(flag: str, number: int, count: int) -> int:
    """The index, from 0, for a `number` from 1 to `count`. Raises `SettingsError` for any other number."""
    if not 1 <= number <= count:
        allowed = f"from 1 to {count}" if count > 1 else "1: there is only one"
        raise SettingsError(f"{flag} must be {allowed}, got {number}", field=setting(flag))
    return number - 1


def refuse_empty(text: str, source: str | None) -> None:
    """Raise `SettingsError` if there is no text to look at, or a source without any."""
    for field, words in (("text", text), ("source", source)):
        if words == "":
            raise SettingsError(f"the {field} is empty; there is nothing to look at", field=field)
