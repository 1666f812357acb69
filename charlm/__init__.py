"""charlm: train recurrent networks and transformers on a text file, and write new text with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from charlm.writer import Writer

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(run: str | Path = "last", **opening: Any) -> Writer:
    """Open a trained run for writing and scoring: a path, a name under `runs/`, `last` or `best`.

    Keywords are the fields of `charlm.runs.opening.Opening`: `weights` is `best` (lowest validation loss, the default)
    or `last` (where training stopped); `device` is `auto`, `cpu`, `cuda` or `mps`; `quantize="int8"` rounds the weights
    to 8 bits, so that a large transformer writes faster on a CPU. Raises `RunError` if there is no such run or it is
    damaged, and `SettingsError` for other values, and where int8 would gain nothing.
    """
    from charlm.runs.opening import Opening
    from charlm.writer import Writer  # torch is imported only when a model is wanted

    return Writer.load(run, Opening(**opening))
