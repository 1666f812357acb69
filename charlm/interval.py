"""Intervals between two events of a training, as they are typed: `500` steps, `30s`, `2m`."""

from __future__ import annotations

import math
from typing import NamedTuple

from charlm.errors import SettingsError

_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Interval(NamedTuple):
    """An interval in steps or in seconds; with neither it is automatic."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, flag: str, text: str, *, auto: bool = False) -> Interval:
        """Read `500`, `30s`, `2m`, `1h` or, where allowed, `auto`; raises `SettingsError` for anything else."""
        if auto and text == "auto":
            return cls()
        number, unit = (text[:-1], text[-1:]) if text[-1:] in _SECONDS else (text, "")
        try:
            value = float(number) if unit else int(number)
        except ValueError:
            value = 0
        if not 0 < value < math.inf:
            forms = "steps (500) or a time (30s, 2m, 1h)" + (" or auto" if auto else "")
            raise SettingsError(
                f"{flag} must be a number of {forms}, got {text!r}", field=flag.removeprefix("--").replace("-", "_")
            )
        return cls(seconds=value * _SECONDS[unit]) if unit else cls(steps=int(value))
