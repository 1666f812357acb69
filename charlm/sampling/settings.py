"""What to write, and how to pick its tokens or lines, as settings for `filters` and `beam`. Imports no torch."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from charlm.config import Arg, Settings, fields_of, parse_value
from charlm.errors import SettingsError

S = TypeVar("S", bound="SampleSettings")

LEAST = 1e-6  # a temperature below it is as good as 0
MEMORY = 64  # tokens that the repetition penalty looks back on
SEEDS = 2**63 - 1  # the largest seed

Temperature = Annotated[
    str, Arg("below 1 safer, above 1 wilder, 0 = the most likely token; a list (1.0,0.5) is cycled per token")
]
Unknown = Annotated[Literal["error", "skip", "nearest"], Arg("what to do about characters the run never saw")]


@dataclass(frozen=True)
class SampleSettings(Settings):
    """How a token is picked."""

    temperature: Temperature = "0.8"
    top_k: Annotated[int, Arg("pick from the k most likely tokens, 0 = all", min=0, max=10**9)] = 0
    top_p: Annotated[float, Arg("pick from the likeliest tokens that make up this share", min=0, max=1)] = 1.0
    min_p: Annotated[float, Arg("drop tokens below this share of the likeliest one's", min=0, max=1)] = 0.0
    repetition_penalty: Annotated[
        float, Arg(f"above 1: make the last {MEMORY} tokens less likely", min=0.01, max=100)
    ] = 1.0

    @cached_property
    def temperatures(self) -> tuple[float, ...]:
        """One or more numbers, which the tokens take in turn."""
        try:
            values = tuple(float(part) for part in self.temperature.split(","))
        except ValueError:
            values = (-1.0,)
        if not all(0 <= value <= 1000 for value in values):
            raise SettingsError(
                "--temperature must be a number from 0 to 1000, or several with commas between, "
                f"got {self.temperature!r}",
                field="temperature",
            )
        return tuple(value if value >= LEAST else 0.0 for value in values)

    @classmethod
    def of(cls: type[S], **values: Any) -> S:
        """From keywords or JSON: `temperature` may be a number or a list of them, `stop` a text or a list.

        Raises `SettingsError` for a value that its setting does not allow, and for an unknown name.
        """
        known = {field.name: field for field in fields_of(cls)}
        for name in sorted(values.keys() - known.keys()):
            raise SettingsError(f"{name} is no setting of a request; there are {', '.join(sorted(known))}", field=name)
        temperature, stop = values.get("temperature", ""), values.get("stop", ())
        if not isinstance(temperature, str):
            numbers = temperature if isinstance(temperature, (list, tuple)) else [temperature]
            values["temperature"] = ",".join(map(str, numbers))
        if isinstance(stop, str):
            values["stop"] = (stop,)
        return cls(**{name: parse_value(known[name], value) for name, value in values.items()})

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.temperatures  # raises if it cannot be parsed


@dataclass(frozen=True)
class Prompt(Settings):
    """The beginning of a text."""

    prompt: Annotated[str, Arg("text to continue; - reads standard input")] = ""
    unknown: Unknown = "error"


@dataclass(frozen=True)
class Amount(Settings):
    """How much to write."""

    length: Annotated[int, Arg("tokens to write, 0 = without end", min=0, max=10**15)] = 500
    stop: Annotated[tuple[str, ...], Arg("end before this text (may be given several times)")] = ()
    samples: Annotated[int, Arg("texts to write, in one batch", min=1, max=65_536)] = 1
    novel: Annotated[
        int, Arg("copy at most so many characters in a row from the training text, 0 = any", min=0, max=10**6)
    ] = 0
    seed: Annotated[
        int | None, Arg("the same seed writes the same text [default: another each time]", min=0, max=SEEDS)
    ] = None


@dataclass(frozen=True)
class Request(Prompt, Amount, SampleSettings):
    """A text to write: its prompt, its length, and how its tokens are picked."""

    def chosen_seed(self) -> int:
        """The seed, or a random one if none was given."""
        return secrets.randbits(31) if self.seed is None else self.seed


@dataclass(frozen=True)
class ClassifySettings(Settings):
    """How a text is read whose class is told."""

    unknown: Unknown = "error"


@dataclass(frozen=True)
class BeamSettings(Settings):
    """How the best lines for a source are searched."""

    beam: Annotated[int, Arg("hypotheses that are kept, 1 = greedy", min=1, max=1000)] = 1
    length_penalty: Annotated[float, Arg("above 0: long lines are forgiven for being less likely", min=0, max=10)] = 0.6
    n_best: Annotated[int, Arg("of a --beam: lines to show for each source, the best first", min=1, max=1000)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best > self.beam:
            raise SettingsError(
                f"--n-best {self.n_best} is more than --beam {self.beam} can find; give --beam {self.n_best} or more",
                field="n_best",
            )
        if self.beam == 1 and self.length_penalty != BeamSettings.length_penalty:
            raise SettingsError(
                "--length-penalty weighs the lines of a beam against each other; give a --beam above 1",
                field="length_penalty",
            )


@dataclass(frozen=True)
class TranslateSettings(BeamSettings, SampleSettings):
    """How a line is written for each source: the likeliest one (greedy or beam search), or a sampled one."""

    temperature: Temperature = "0"
    seed: Annotated[
        int | None, Arg("of --temperature: the same seed writes the same [default: 0]", min=0, max=SEEDS)
    ] = None
    unknown: Unknown = "error"

    @property
    def drawn(self) -> bool:
        """Whether lines are sampled."""
        return any(self.temperatures)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drawn and self.beam > 1:
            raise SettingsError(
                "--beam looks for the likeliest line and --temperature draws one; give one of them", field="beam"
            )
        of_sampling = {"seed", *(field.name for field in fields_of(SampleSettings))} - {"temperature"}
        for field in fields_of(type(self)):
            if not self.drawn and field.name in of_sampling and getattr(self, field.name) != field.default:
                raise SettingsError(
                    f"{field.flag} is for lines that are drawn; give a --temperature above 0 with it", field=field.name
                )
