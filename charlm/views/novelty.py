"""A text, coloured by what is copied."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from charlm.text.visible import printable
from charlm.views.console import table
from charlm.views.pictures import heat

if TYPE_CHECKING:
    from charlm.inside.novelty import Examined

PALE, RED = 12, 64  # characters: copied passages of these lengths get the palest and the reddest colour


def view(examined: Examined) -> Group:
    return Group(*parts(examined))


def parts(examined: Examined) -> Iterator[RenderableType]:
    """The parts of the view: a table, the longest copied passage, and the text with copies in colour."""
    text, trained, result = examined
    shares = table(">characters in a row", ">of this text", ">of held-out text", title="copied")
    for n, share in result.shares.items():
        shares.add_row(str(n), f"{share:.1%}", f"{result.held_out[n]:.1%}" if n in result.held_out else "")
    longest = result.longest
    shares.add_row("longest", str(len(longest.text)), str(result.longest_held_out))
    yield shares
    if result.held_out:
        yield Text("\nheld-out text was not trained on: what it shares is what people repeat anyway")
    source = f"{trained.name}, line {examined.line:,} (character {trained.chars_before + longest.known_at:,})"
    if longest.text:
        yield Text(f"\nlongest copy, here at character {longest.at:,}, there in {source}:\n{longest.text!r}")
    if trained.chars_before:
        yield Text(f"only the last {len(trained.text):,} characters of the training text were searched")
    yield Text(f"\nred: copied, the redder the longer, from {PALE} characters in a row to {RED} and more\n")
    colours, position = Text(), 0
    for length, group in groupby(result.copied.tolist()):
        size = len(list(group))
        share = 0.2 + 0.8 * (min(length, RED) - PALE) / (RED - PALE)  # the palest is visible too
        colours.append(printable(text[position : position + size]), heat(share) if length >= PALE else "")
        position += size
    yield colours
