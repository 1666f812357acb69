"""How likely each token is, before and after each filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from charlm.text.visible import with_base
from charlm.views.console import table

if TYPE_CHECKING:
    from charlm.inside.explain import Explanation

WIDTH = 12  # columns of a bar
EIGHTHS = " ▏▎▍▌▋▊▉█"


def view(explanation: Explanation, prompt: str) -> RenderableType:
    """A row per token, a column per filter."""
    tokens, stages = explanation
    probabilities = table("token", *(stage.name for stage in stages))
    for row, token in enumerate(tokens):
        probabilities.add_row(repr(with_base(token)), *(cell(stage.probabilities[row]) for stage in stages))
    probabilities.add_row("others", *(cell(stage.rest) for stage in stages), style="dim")
    probabilities.add_row("possible", *(f"{stage.kept}" for stage in stages), style="dim")
    return Group(Text(f"after {prompt!r}, from left to right:\n"), probabilities)


def cell(probability: float) -> str:
    """The number and a bar; empty for a token that was filtered out."""
    if probability <= 0:
        return ""
    eighths = round(probability * WIDTH * 8)
    bar = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return f"{probability:6.1%} {bar}"
