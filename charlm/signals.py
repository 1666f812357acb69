"""Interrupts of a training: it saves what it has."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from charlm.events import Control, Event, Started

ENDS = (signal.SIGINT, signal.SIGTERM)


def until_interrupted(events: Iterator[Event], signals: Signals) -> Iterator[Event]:
    """The same events. Raises `KeyboardInterrupt` if it is interrupted before the training has started, when there is
    nothing to save."""
    begun = False
    for event in events:
        begun = begun or isinstance(event, Started)
        if signals.number and not begun:
            raise KeyboardInterrupt
        yield event


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
def handle_signals(*, quiet: bool = False, ends: Sequence[int] = ENDS) -> Iterator[Signals]:
    """`Signals` as the handlers of this process while the context is open; `ends` are those that stop the training.

    Only the main thread may have handlers: in others there are none.
    """
    signals = Signals(Control(), quiet=quiet)
    handlers: dict[int, Any] = dict.fromkeys(ends, signals.stop)
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = signals.save
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
