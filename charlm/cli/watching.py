"""Showing a training: a live display on a terminal, plain lines in a pipe, JSON, or nothing."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from typing import Any

from charlm import events
from charlm.progress import Progress
from charlm.score import Score
from charlm.training.loop import Step
from charlm.views.console import close_quietly, out
from charlm.views.training import Lines, Silent, Terminal


def show(stream: Iterator[events.Event], *, quiet: bool, json: bool) -> bool:
    """Run a training to its end, and show it. Returns whether it ended by itself, and was not stopped."""
    view: Silent = JsonLines() if json else Silent() if quiet else Terminal() if out.is_terminal else Lines()
    event: events.Event | None = None
    try:
        for event in stream:
            try:
                view.show(event)
            except OSError:  # the pipe is closed, or the log's disk is full: the training goes on
                close_quietly()
                view = Silent()
    finally:
        view.close()
    return isinstance(event, events.Ended)


class JsonLines(Silent):
    """A JSON object per event, except for steps and progress."""

    def show(self, event: events.Event) -> None:
        if isinstance(event, (Step, Progress)):
            return
        fields = {name: plain_value(value) for name, value in event._asdict().items()}
        if isinstance(event, events.Started):
            fields = {
                "path": event.path,
                **event.plan.to_dict(),
                "params": event.params,
                "multiply_adds": event.multiply_adds,
                "vocab_size": event.vocab_size,
            }
        print(jsonlib.dumps({"event": type(event).__name__.lower(), **fields}, default=str), flush=True)


def plain_value(value: Any) -> Any:
    """A field of an event as JSON; baselines are computed."""
    value = value() if callable(value) else value
    if isinstance(value, Score):
        return value.to_json()
    return value._asdict() if hasattr(value, "_asdict") else value
