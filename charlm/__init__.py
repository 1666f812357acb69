"""charlm: train recurrent networks and transformers on a text file, and write new text with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from charlm.writer import Writer

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(
    run: str | Path = "last", *, weights: str = "best", device: str = "auto", quantize: str | None = None
) -> Writer:
    """Open a trained run for writing and scoring: a path, a name under `runs/`, `last` or `best`.

    `weights` is `best` (lowest validation loss) or `last` (where training stopped); `quantize="int8"` rounds them to
    8 bits, so that a large transformer writes faster on a CPU. Raises `RunError` if there is no such run or it is
    damaged, and `SettingsError` where int8 would gain nothing.
    """
    from charlm.writer import Writer  # torch is imported only when a model is wanted

    return Writer.load(run, weights=weights, device=device, quantize=quantize)
