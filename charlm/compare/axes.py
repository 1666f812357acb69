"""What curves are drawn along, and what stands at their axes: once, for the terminal and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.kinds._base import Band

AXES = {"seconds": "seconds of training", "tokens": "tokens trained on", "step": "optimizer steps"}
BY_LENGTH = {"exact": "percent exactly right", "bleu": "BLEU", "chrf": "chrF"}
LENGTH = "tokens of the source"


def place(band: Band, field: str) -> tuple[float, float] | None:
    """(tokens of the source, from 0 to 100 how good by a field of `BY_LENGTH`); None where that is not known."""
    value: float | None = getattr(band, field)
    return None if value is None else ((band.shortest + band.longest) / 2, 100 * value if field == "exact" else value)
