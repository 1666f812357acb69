"""A plan: everything that was decided before training, from defaults, recipe, preset, file and command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from charlm import archs, kinds, objectives
from charlm.config import (
    BUDGETS,
    LONG,
    DataSettings,
    DataSpec,
    Lengths,
    Settings,
    TrainSettings,
    fields_of,
    flag,
    take,
)
from charlm.errors import RunError, SettingsError
from charlm.kinds._base import Kind
from charlm.model import Network
from charlm.objectives._base import Objective

Values = Mapping[str, Any]
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

    kind: str  # of data
    arch: str
    model: Settings
    objective: Objective
    train: TrainSettings
    data: DataSettings

    @property
    def longest(self) -> Lengths:
        """The lengths of a network for data that leave room for what was asked for."""
        return kinds.load(self.kind).lengths(self.data, self.train)

    @property
    def batch_flags(self) -> str:
        """What says how large a batch is."""
        return kinds.load(self.kind).batch_flags

    @classmethod
    def of(cls, *layers: Values, kind: str = kinds.TEXT) -> Plan:
        """The defaults, with what the architecture's recipe and then each layer says instead.

        Raises `SettingsError` for a setting that this architecture does not have, that belongs to another kind of data,
        or whose value does not fit, and for data that the architecture cannot read.
        """
        given, data = merge(*layers), kinds.load(kind)
        arch = given.pop("arch", data.arch)
        network, goal = archs.load(arch), chosen_objective(given.pop("objective", None), arch, data)
        groups = (network.Config, goal, TrainSettings, data.Settings)
        known = {f.name for group in groups for f in fields_of(group)}
        for name in sorted(given):
            owners = [other for other in kinds.all_kinds() if name in other.own]
            if owners and data not in owners:
                raise SettingsError(of_another_kind(name, owners[0], arch, data), field=name)
            if name not in known:
                raise SettingsError(stranger(name, arch), field=name)
        names = [kind, data.long] if data.long and is_long(given) else [kind]
        values = merge({"minutes": MINUTES}, *(network.recipes.get(name, {}) for name in names), given)
        return cls(kind, arch, *(take(group, values) for group in groups))  # type: ignore[arg-type]  # in their order

    @classmethod
    def from_dict(cls, config: Values) -> Plan:
        """The inverse of `to_dict`. Raises `RunError` if settings are missing or do not fit this charlm."""
        try:
            kind, model = kinds.load(config["kind"]), archs.load(config["arch"]).Config
            if config["model"].keys() != {f.name for f in fields_of(model)}:
                raise SettingsError(f"its {config['arch']} has other settings")
            name, *_ = config["objective"]
            return cls(
                kind.name(),
                config["arch"],
                model(**config["model"]),
                chosen_objective(name, config["arch"], kind)(**config["objective"][name]),
                TrainSettings(**config["train"]),
                kind.Settings(**config["data"]),
            )
        except (KeyError, TypeError, SettingsError) as error:
            raise RunError(f"config.json does not describe a run of this charlm: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"objective": {self.objective.name(): self.objective.to_dict()}}

    def build(self, spec: DataSpec) -> Network:
        """The network with fresh weights, for the data and for the symbols that the objective adds."""
        return archs.load(self.arch)(self.model, spec._replace(symbols=self.objective.symbols))

    def outline(self, spec: DataSpec) -> Network:
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


def chosen_objective(name: str | None, arch: str, kind: type[Kind]) -> type[Objective]:
    """The objective of this name or, by default, what the architecture is trained for on this kind of data.

    Raises `SettingsError` if there is none of the name, or the architecture cannot be trained for it on such data.
    """
    able = suitable(arch, kind)
    if not able:
        raise SettingsError(f"{arch} reads no {kind.noun}; choose from {', '.join(readers(kind))}")
    chosen = objectives.load(able[0] if name is None else name)
    if chosen.name() not in able:
        raise SettingsError(f"--objective {name} is not for {arch} on {kind.noun}; choose from {', '.join(able)}")
    return chosen


def suitable(arch: str, kind: type[Kind]) -> list[str]:
    """The objectives that an architecture can be trained for on a kind of data, its own first."""
    return objectives.suitable(kind.rows, archs.load(arch))


def readers(kind: type[Kind]) -> list[str]:
    """The architectures that can be trained on a kind of data."""
    return [name for name in archs.names() if suitable(name, kind)]


def readable(arch: str) -> list[str]:
    """The kinds of data that an architecture can be trained on."""
    return [kind.name() for kind in kinds.all_kinds() if suitable(arch, kind)]


def of_another_kind(name: str, owner: type[Kind], arch: str, kind: type[Kind] | None = None) -> str:
    """What to say about a setting that means something for another kind of data than this, if that is known."""
    able = "" if suitable(arch, owner) else f", with --arch {' or '.join(readers(owner))}"
    instead = f"; for {kind.noun} there are {', '.join(map(flag, kind.own))}" if kind else ""
    files = f": {owner.files}" if owner.files else ""
    return f"{flag(name)} is for {owner.noun}{files}{able}{instead}"


def stranger(name: str, arch: str, commands: Sequence[str] = ()) -> str:
    """What to say about a setting that `arch` does not have, but perhaps other `commands`."""
    for kind in kinds.all_kinds():
        if name in kind.own:
            return of_another_kind(name, kind, arch)
    owners = [other for other in archs.names() if any(f.name == name for f in fields_of(archs.load(other).Config))]
    own = ", ".join(f.flag for f in fields_of(archs.load(arch).Config))
    if owners:
        return f"{flag(name)} belongs to {', '.join(owners)}; {arch} has {own}"
    goals = [objectives.load(goal) for goal in objectives.names()]
    data = [kind.Settings for kind in kinds.all_kinds()]
    groups = (archs.load(arch).Config, *goals, TrainSettings, *data)
    known = [f.name for group in groups for f in fields_of(group)]
    close = [ELSEWHERE[name]] if name in ELSEWHERE else difflib.get_close_matches(name, known, 1)
    if commands and not close:
        return f"{flag(name)} is no setting of charlm train; it belongs to {', '.join(commands)}"
    hint = f" (did you mean {flag(close[0])}?)" if close else ""
    return f"{flag(name)} is no setting of charlm train{hint}; see charlm train --arch {arch} --help"
