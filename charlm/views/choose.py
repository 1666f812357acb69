"""How likely the answers to a question are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from charlm.text.visible import brief, visible
from charlm.views.console import table

if TYPE_CHECKING:
    from charlm.inside.choose import Answered, Answers

LONGEST = 30  # characters of a prompt that are shown
GAIN = "gain: what the prompt adds over a neutral one"


def ranking(answered: Answered) -> RenderableType:
    """The choices of one question; the best by each measure are marked."""
    from charlm.inside.choose import MEASURES

    rows = table("choice", *(f">{words}" for words in MEASURES.values()))
    rows.columns[0].no_wrap = False  # or a long choice would leave no room for the numbers
    best = {measure: answered.best(measure) for measure in MEASURES}
    for number, one in enumerate(answered.choices):
        values = (f"{'* ' if number in best[name] else ''}{getattr(one, name):.3f}" for name in MEASURES)
        rows.add_row(Text(visible(one.text, space=" ")), *values)
    return Group(rows, Text(f"log-probabilities in nats; {GAIN}; *: the highest", "dim"))


def accuracies(found: Answers) -> RenderableType:
    """How many questions were answered right by each measure, or, where no answers are known, what was chosen."""
    from charlm.inside.choose import MEASURES

    if not found.accuracies():
        chosen = table("prompt", *MEASURES.values())
        for one in found.answered:
            best = (" or ".join(one.choices[index].text for index in one.best(measure)) for measure in MEASURES)
            prompt = brief(one.question.prompt, LONGEST, space=" ")
            chosen.add_row(Text(prompt), *(Text(visible(text, space=" ")) for text in best))
        return Group(chosen, Text(GAIN, "dim"))
    rows = table("", ">right", "95 % interval")
    for measure, (value, low, high) in found.accuracies().items():
        rows.add_row(MEASURES[measure], f"{value:.1%}", f"{low:.1%} to {high:.1%}")
    for name, share in found.baselines().items():
        rows.add_row(name, f"{share:.1%}", style="dim")
    return Group(rows, Text(f"{len(found.answered)} questions, {len(found.shots)} shots; {GAIN}", "dim"))
