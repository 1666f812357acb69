"""How a run is opened, as settings. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from charlm.config import Arg, Settings


@dataclass(frozen=True)
class Opening(Settings):
    """Which weights of a run to load, on which device, and whether to quantize them."""

    weights: Annotated[Literal["best", "last"], Arg("the best in validation, or the last")] = "best"
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Arg("where to compute")] = "auto"
    quantize: Annotated[
        Literal["int8"] | None, Arg("round the weights to 8 bits: a large transformer writes faster")
    ] = None
