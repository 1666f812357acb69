"""Interrupts of a training: it saves what it has."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from charlm.events import Control, Event


def until_interrupted(events: Iterator[Event], signals: Signals) -> Iterator[Event]:
    """The same events. An interrupt before the training has started, when there is nothing to save, exits at once."""
    from charlm.events import Started

    begun = False
    try:
        for event in events:
            begun = begun or isinstance(event, Started)
            if signals.number and not begun:
                break
            yield event
        else:
            return
    except KeyboardInterrupt:
        pass
    raise typer.Exit(128 + signals.number)


class Signals:
    """Signal handlers. The first interrupt makes the training finish its step and save, a second one ends it at once;
    SIGUSR1, where the system has it, makes it save and go on."""

    def __init__(self, control: Control, *, quiet: bool = False) -> None:
        self.control, self.quiet = control, quiet
        self.number = 0  # of the signal that stopped the training

    def stop(self, number: int, _frame: Any) -> None:
        if self.control.stop:
            raise KeyboardInterrupt
        self.number, self.control.stop = number, True
        if not self.quiet and not sys.stdout.isatty():  # a live display would be torn, and ends soon anyway
            with suppress(OSError):  # a closed pipe must not prevent saving
                os.write(2, b"\nfinishing this step and saving; interrupt again to end at once\n")

    def save(self, _number: int, _frame: Any) -> None:
        self.control.save = True


@contextmanager
def handle_signals(*, quiet: bool = False) -> Iterator[Signals]:
    """`Signals` as the handlers of this process while the context is open."""
    from charlm.events import Control

    signals = Signals(Control(), quiet=quiet)
    handlers: dict[int, Any] = {signal.SIGINT: signals.stop, signal.SIGTERM: signals.stop}
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = signals.save
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
