"""A text, coloured by how much it surprises a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from charlm.score import BITS
from charlm.text.visible import visible
from charlm.views.console import table
from charlm.views.pictures import heat, tilt

if TYPE_CHECKING:
    from charlm.inside.surprise import Surprise

LARGE = 4.0  # bits of difference that get the deepest blue or red


def heat_map(surprise: Surprise) -> Text:
    """The text with every character coloured by its bits, and the mean at the end of every line."""
    from charlm.inside.surprise import HOT

    view = Text()
    for line, bits in surprise.lines():
        for c, b in zip(line, bits.tolist(), strict=True):
            view.append(visible(c, space=" "), heat(b / HOT))
        view.append(f"  {bits.mean():.2f}\n", "dim")
    return view


def difference_map(first: Surprise, other: Surprise) -> Text:
    """The text with every character coloured by which model guesses it better, and how much."""
    view = Text()
    for (line, bits), (_, other_bits) in zip(first.lines(), other.lines(), strict=True):
        for c, ahead in zip(line, (other_bits - bits).tolist(), strict=True):
            view.append(visible(c, space=" "), tilt(-ahead / LARGE))  # blue: the first is better
        view.append(f"  {(other_bits - bits).mean():+.2f}\n", "dim")
    return view


def view(surprise: Surprise) -> Group:
    return Group(heat_map(surprise), Text(), summary(surprise))


def summary(surprise: Surprise) -> Group:
    measure = surprise.measure.words
    parts: list[RenderableType] = [
        Text(f"{surprise.value:.4f} {measure}; the redder, the more surprising; at a line's end its mean")
    ]
    if surprise.measure != BITS:
        parts.append(Text("a pseudo-log-likelihood: each token was hidden alone, and guessed from both sides"))
    for title, totals in surprise.breakdowns().items():
        means = table(title, ">characters", ">bits each")
        for total in totals:
            means.add_row(total.name, f"{total.chars:,}", f"{total.bits:.3f}")
        parts += [Text(), means]
    return Group(*parts)


def difference_summary(first: Surprise, other: Surprise, run: str, diff: str) -> Group:
    parts: list[RenderableType] = [
        Text(
            f"{run} {first.value:.4f}, {diff} {other.value:.4f} {first.measure.words}; "
            f"blue: {run} guesses better, red: {diff} does"
        )
    ]
    for (title, totals), other_totals in zip(first.breakdowns().items(), other.breakdowns().values(), strict=True):
        means = table(title, ">characters", f">{run}", f">{diff}")
        for a, b in zip(totals, other_totals, strict=True):
            means.add_row(a.name, f"{a.chars:,}", f"{a.bits:.3f}", f"{b.bits:.3f}")
        parts += [Text(), means]
    return Group(*parts)
