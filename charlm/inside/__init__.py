"""Looking inside a trained run: one file per question, each a pure function of a `Writer` and a text."""

from __future__ import annotations

from charlm.config import setting
from charlm.errors import SettingsError


def numbered(flag: str, given: int, count: int) -> int:
    """The index of what a person numbers from 1. Raises `SettingsError` if there is no such number."""
    if not 1 <= given <= count:
        allowed = f"from 1 to {count}" if count > 1 else "1: there is only one"
        raise SettingsError(f"{flag} must be {allowed}, got {given}", field=setting(flag))
    return given - 1
