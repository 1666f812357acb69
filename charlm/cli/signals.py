"""Interrupts of a training as exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from charlm.events import Event
    from charlm.signals import Signals


def until_interrupted(events: Iterator[Event], signals: Signals) -> Iterator[Event]:
    """The same events. An interrupt before the training has started, when there is nothing to save, exits at once."""
    from charlm import signals as below

    try:
        yield from below.until_interrupted(events, signals)
    except KeyboardInterrupt:
        raise typer.Exit(128 + signals.number) from None
