"""How a token, or a whole line, is picked, as settings. Nothing here imports torch; `filters` and `beam` do it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from charlm.config import Arg, Settings
from charlm.errors import SettingsError

MEMORY = 64  # tokens that the repetition penalty looks back on


@dataclass(frozen=True)
class SampleSettings(Settings):
    """How a token is picked."""

    temperature: Annotated[
        str, Arg("below 1 bolder, above 1 wilder, 0 = most likely; a list (1.0,0.5) is cycled per token")
    ] = "0.8"
    top_k: Annotated[int, Arg("pick from the k most likely tokens, 0 = all", min=0, max=10**9)] = 0
    top_p: Annotated[float, Arg("pick from the likeliest tokens that make up this share", min=0, max=1)] = 1.0
    min_p: Annotated[float, Arg("drop tokens below this share of the likeliest one's", min=0, max=1)] = 0.0
    repetition_penalty: Annotated[float, Arg("above 1: make the last 64 tokens less likely", min=0.01, max=100)] = 1.0

    @cached_property
    def temperatures(self) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in self.temperature.split(","))
        except ValueError:
            values = (-1.0,)
        if not all(0 <= value <= 1000 for value in values):
            raise SettingsError(
                "--temperature must be a number from 0 to 1000, or several with commas between, "
                f"got {self.temperature!r}"
            )
        return values

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.temperatures  # raises for what is no temperature


@dataclass(frozen=True)
class TranslateSettings(Settings):
    """How the best line for a source is looked for."""

    beam: Annotated[int, Arg("hypotheses that are kept, 1 = greedy", min=1, max=1000)] = 1
    length_penalty: Annotated[float, Arg("above 0: long lines are forgiven for being less likely", min=0, max=10)] = 0.6
