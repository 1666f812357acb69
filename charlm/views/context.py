"""A score by the number of tokens in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from charlm.views.console import table

if TYPE_CHECKING:
    from charlm.inside.context import Reach

WIDTH = 40  # columns of the longest bar


def view(reached: Reach) -> Table:
    highest = max(score for _, score in reached.contexts)
    scores = table(">tokens in sight", ">bits per byte", "")
    for tokens, score in reached.contexts:
        scores.add_row(str(tokens), f"{score:.3f}", "█" * round(WIDTH * score / highest))
    furthest = reached.contexts[-1].tokens
    if reached.enough < furthest:
        conclusion = f"after {count(reached.enough)} more context gains less than 1 %"
    else:
        conclusion = f"more context still gains 1 % or more at {count(furthest)}, the most that could be tried"
    scores.caption = Text(f"\n{conclusion}\nscored at {reached.places} places, the same for each line")
    scores.caption_justify = "left"
    return scores


def count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens} tokens"
