"""The axes of learning curves and of quality by source length, for the terminal and the report alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.kinds._base import Band

AXES = {"seconds": "seconds of training", "tokens": "tokens trained on", "step": "optimizer steps"}
BY_LENGTH = {"exact": "percent exactly right", "bleu": "BLEU", "chrf": "chrF"}
LENGTH = "tokens of the source"


def point(band: Band, field: str) -> tuple[float, float] | None:
    """(source tokens in the middle of the band, its `field` of `BY_LENGTH` from 0 to 100); None if that is unknown."""
    value: float | None = getattr(band, field)
    return None if value is None else ((band.shortest + band.longest) / 2, 100 * value if field == "exact" else value)
