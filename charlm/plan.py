"""A plan: everything that was decided before training, from defaults, recipe, preset, file and command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from charlm import archs
from charlm.config import (
    BUDGETS,
    LONG,
    DataSettings,
    DataSpec,
    PairSettings,
    Settings,
    TrainSettings,
    fields_of,
    flag,
    take,
)
from charlm.errors import RunError, SettingsError
from charlm.model import LanguageModel

Values = Mapping[str, Any]
RUNNING = {"seq_len", "batch_size", "order"}  # settings that mean something for running text alone
PAIRED = {f.name for f in fields_of(PairSettings)} - {f.name for f in fields_of(DataSettings)}
ELSEWHERE = {  # what other programs call them
    "learning_rate": "lr",
    "block_size": "seq_len",
    "max_iters": "steps",
    "n_embd": "hidden_size",
    "val": "val_frac",
}
MINUTES = 5.0  # the budget where none is given


@dataclass(frozen=True)
class Plan:
    """One training, decided."""

    arch: str
    model: Settings
    train: TrainSettings
    data: DataSettings

    @property
    def pairs(self) -> bool:
        """Whether sources are read and targets written, and no running text."""
        return isinstance(self.data, PairSettings)

    @property
    def objective(self) -> str:
        return "pairs" if self.pairs else archs.load(self.arch).objectives[0]

    @classmethod
    def of(cls, *layers: Values, pairs: bool = False) -> Plan:
        """The defaults, with what the architecture's recipe and then each layer says instead.

        Raises `SettingsError` for a setting that this architecture does not have, that belongs to the other kind of
        text, or whose value does not fit, and for pairs that the architecture cannot read.
        """
        given = merge(*layers)
        arch = given.pop("arch", "lstm")
        kind = archs.load(arch)
        if pairs and not reads_pairs(arch):
            raise SettingsError(f"{arch} reads no pairs of source and target; choose from {', '.join(pair_archs())}")
        data = PairSettings if pairs else DataSettings
        known = {f.name for group in (kind.Config, TrainSettings, PairSettings) for f in fields_of(group)}
        for name in sorted(given.keys() - known):
            raise SettingsError(stranger(name, arch))
        recipe = [kind.pair_recipe] if pairs else [kind.recipe, kind.long_recipe if is_long(given) else {}]
        if misplaced := sorted(given.keys() & (RUNNING if pairs else PAIRED)):
            raise SettingsError(elsewhere(misplaced[0], pairs=pairs))
        values = merge({"minutes": MINUTES}, *recipe, given)
        return cls(arch, take(kind.Config, values), take(TrainSettings, values), take(data, values))

    @classmethod
    def from_dict(cls, config: Values) -> Plan:
        """The inverse of `to_dict`. Raises `RunError` if settings are missing or do not fit this charlm."""
        try:
            kind = archs.load(config["arch"]).Config
            if config["model"].keys() != {f.name for f in fields_of(kind)}:
                raise SettingsError(f"its {config['arch']} has other settings")
            return cls(
                config["arch"],
                kind(**config["model"]),
                TrainSettings(**config["train"]),
                (PairSettings if config["data"].keys() & PAIRED else DataSettings)(**config["data"]),
            )
        except (KeyError, TypeError, SettingsError) as error:
            raise RunError(f"config.json does not describe a run of this charlm: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def build(self, spec: DataSpec) -> LanguageModel:
        """The model with fresh weights."""
        return archs.load(self.arch)(self.model, spec)

    def outline(self, spec: DataSpec) -> LanguageModel:
        """The model without memory for its weights, to know its sizes."""
        with torch.device("meta"), Undrawn():
            return self.build(spec)


class Undrawn(TorchFunctionMode):
    """No random numbers are drawn: without memory that would do nothing, and import half of PyTorch to do it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("normal_", "uniform_"):  # of a tensor, and of nn.init
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def is_long(given: Values) -> bool:
    """Whether the budget is known to take `LONG` minutes or more."""
    minutes = given.get("minutes")
    return isinstance(minutes, (int, float)) and minutes >= LONG


def merge(*layers: Values) -> dict[str, Any]:
    """Later layers win; a budget replaces whatever budget stood before, of whatever kind."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer.keys() & BUDGETS:
            merged = {name: value for name, value in merged.items() if name not in BUDGETS}
        merged |= layer
    return merged


def reads_pairs(arch: str) -> bool:
    """Whether an architecture can read a source and write a target."""
    return "pairs" in archs.load(arch).objectives


def pair_archs() -> list[str]:
    """The architectures that can."""
    return [name for name in archs.names() if reads_pairs(name)]


def elsewhere(name: str, *, pairs: bool) -> str:
    """What to say about a setting of running text where there are pairs, or the other way round."""
    if pairs:
        return f"{flag(name)} is for running text; the batches of pairs have --batch-tokens, and --max-length"
    able = " or ".join(pair_archs())
    return f"{flag(name)} is for pairs of source and target: a .tsv or .jsonl file, with --arch {able}"


def stranger(name: str, arch: str, commands: Sequence[str] = ()) -> str:
    """What to say about a setting that `arch` does not have, but perhaps other `commands`."""
    if name in PAIRED:
        return elsewhere(name, pairs=False)
    owners = [other for other in archs.names() if any(f.name == name for f in fields_of(archs.load(other).Config))]
    own = ", ".join(f.flag for f in fields_of(archs.load(arch).Config))
    if owners:
        return f"{flag(name)} belongs to {', '.join(owners)}; {arch} has {own}"
    groups = (archs.load(arch).Config, TrainSettings, PairSettings)
    known = [f.name for group in groups for f in fields_of(group)]
    close = [ELSEWHERE[name]] if name in ELSEWHERE else difflib.get_close_matches(name, known, 1)
    if commands and not close:
        return f"{flag(name)} is no setting of charlm train; it belongs to {', '.join(commands)}"
    hint = f" (did you mean {flag(close[0])}?)" if close else ""
    return f"{flag(name)} is no setting of charlm train{hint}; see charlm train --arch {arch} --help"
