"""Displays in a notebook. IPython is used where it is running, and needed nowhere else."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.text import Text

from charlm import events
from charlm.progress import Progress
from charlm.training.loop import Step
from charlm.views.chart import line_chart
from charlm.views.pictures import as_fragment
from charlm.views.training import SHELL, Advice, Terminal, bar

R = TypeVar("R")
EVERY = 1.0  # seconds between two updates
MOST = 600  # points of a curve; of more every second one is left out


class Pane:
    """A place in the output of a cell, whose content is replaced."""

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, html: str) -> None:
        from IPython.display import HTML, display

        if self.handle is None:
            self.handle = display(HTML(html), display_id=True)
        else:
            self.handle.update(HTML(html))


class Notebook(Terminal):
    """A training in a cell: lines, a bar, and curves of the loss, redrawn every second."""

    every = EVERY

    def __init__(self, advice: Advice = SHELL) -> None:
        super().__init__(advice)
        self.live, self.pane = self, Pane()  # what a terminal's live display is asked for
        self.lines: list[RenderableType] = []
        self.below: RenderableType = ""
        self.losses: list[tuple[float, float]] = []
        self.scores: list[tuple[float, float]] = []

    def start(self) -> None: ...

    def stop(self) -> None:
        self.update("")

    def update(self, below: RenderableType, *, refresh: bool = True) -> None:
        self.below = below
        if refresh:
            self.draw()

    def say(self, text: RenderableType) -> None:
        self.lines.append(Text(text) if isinstance(text, str) else text)  # no markup
        self.draw()

    def step(self, event: Step) -> None:
        before = self.refreshed
        super().step(event)
        if self.refreshed > before:
            self.losses.append((event.number, self.meter.loss))
            self.losses = self.losses[:: 1 + (len(self.losses) > MOST)]

    def validated(self, event: events.Validated) -> None:
        super().validated(event)
        self.scores.append((event.step, event.score.nats_per_token))

    def draw(self) -> None:
        curves = {"training loss": [self.losses], "validation": [self.scores]} if self.scores else {}
        chart = line_chart(curves or {"training loss": [self.losses]}, "steps", "nats per token")
        self.pane.show(as_fragment(Group(*self.lines, self.below)) + chart)


def watch(work: Generator[Progress, None, R]) -> R:
    """Run long work to its end, with a bar while it takes longer than a second; its result."""
    pane, shown = Pane(), time.monotonic()
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            if pane.handle is not None:
                pane.show("")
            return end.value  # type: ignore[no-any-return]
        if time.monotonic() - shown >= EVERY:
            shown = time.monotonic()
            pane.show(as_fragment(bar(event.done / max(event.total, 1), event.what)))
