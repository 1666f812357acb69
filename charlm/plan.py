"""A plan: all settings of one training, merged from defaults, recipe, preset, file and command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from charlm.device import device_class
from charlm.errors import RunError, SettingsError
from charlm.kinds._base import Kind
from charlm.model import Network
from charlm.objectives._base import Objective

Values = Mapping[str, Any]
OTHER_NAMES = {  # names of settings in other programs
    "learning_rate": "lr",
    "block_size": "seq_len",
    "max_iters": "steps",
    "n_embd": "hidden_size",
    "val": "val_frac",
}
MINUTES = 5.0  # the budget where none is given


@dataclass(frozen=True)
class Plan:
    """All settings of one training."""

    kind: str  # of data
    arch: str
    model: Settings
    objective: Objective
    train: TrainSettings
    data: DataSettings
    recipe: str = field(default="", compare=False)  # the names of those whose values are its defaults, for people

    @property
    def lengths(self) -> Lengths:
        """The network's sequence lengths where the data are long enough for the settings; the largest possible."""
        return self.objective.room(kinds.load(self.kind).lengths(self.data, self.train))

    @property
    def batch_flags(self) -> str:
        """The options that set the size of a batch, for messages."""
        return kinds.load(self.kind).batch_flags

    @classmethod
    def of(cls, *layers: Values, kind: str = kinds.TEXT, on: str = "cpu") -> Plan:
        """The defaults, overridden by the architecture's recipe and then by the `layers` in their order.

        `on` is the class of device whose recipe it is; no such device is needed here.
        Raises `SettingsError` for a setting that this architecture does not have, that belongs to another kind of data,
        or whose value does not fit, and for data that the architecture cannot read.
        """
        given, data = merge(*layers), kinds.load(kind)
        arch = given.pop("arch", data.arch)
        network, objective = archs.load(arch), choose_objective(given.pop("objective", None), arch, data)
        groups = (network.Config, objective, TrainSettings, data.Settings)
        known = {f.name for group in groups for f in fields_of(group)}
        for name in sorted(given):
            owners = [other for other in kinds.all_kinds() if name in other.own]
            if owners and data not in owners:
                raise SettingsError(misplaced_message(name, owners, arch, data), field=name)
            if name not in known:
                raise SettingsError(unknown_message(name, arch), field=name)
        name, defaults = recipe(network, data, on, long=is_long(given))
        schedule = {"warmup": 0.1} if given.get("schedule") == "slanted" else {}  # the paper's cut_frac
        values = merge({"minutes": MINUTES}, defaults, schedule, given)
        plan = cls(kind, arch, *(take(group, values) for group in groups), name)  # type: ignore[arg-type, call-arg]  # in field order
        if plan.objective.by_token and getattr(plan.model, "experts", None):
            raise SettingsError(
                "--teacher-forcing below 1 feeds token by token, and the load of --experts is balanced over a row; "
                "leave one of them out",
                field="experts",
            )
        plan.objective.check_training(plan.train)
        if plan.train.batch_size < plan.objective.least_rows:
            raise SettingsError(
                f"--next-sentence takes texts from other rows of a batch, which --batch-size {plan.train.batch_size} "
                "has none of; give a larger one",
                field="batch_size",
            )
        return plan

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
                choose_objective(name, config["arch"], kind)(**config["objective"][name]),
                TrainSettings(**config["train"]),
                kind.Settings(**config["data"]),
                str(config.get("recipe", "")),
            )
        except (KeyError, TypeError, ValueError, SettingsError) as error:
            raise RunError(f"config.json does not describe a run of this charlm: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"objective": {self.objective.name(): self.objective.to_dict()}}

    def build(self, spec: DataSpec) -> Network:
        """The network with freshly initialized weights, with room and parts for what the objective adds to the data.

        Raises `SettingsError` for data that do not suit it.
        """
        return self.objective.equip(archs.load(self.arch)(self.model, self.objective.fitted(spec)))

    def outline(self, spec: DataSpec) -> Network:
        """The network on the meta device: shapes without memory."""
        with torch.device("meta"), NoRandomInit():
            return self.build(spec)


class NoRandomInit(TorchFunctionMode):
    """Skips random initialization, which does nothing on the meta device but imports half of PyTorch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("normal_", "uniform_"):  # methods of Tensor, functions of nn.init
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def recipe(network: type[Network], kind: type[Kind], on: str, *, long: bool) -> tuple[str, dict[str, Any]]:
    """(name, values): the defaults of an architecture for a kind of data and a class of device.

    CUDA's stand on those of the kind of data, and take the place of those for a long budget; other devices have none.
    """
    plain = merge(*(network.recipes.get(name, {}) for name in (*kind.like, kind.name())))
    names = [kind.name(), *([kind.long] if long and kind.long else [])]
    if on == "cuda":
        names, plain = [f"{name} on cuda" for name in names], {**plain, **kind.on_cuda}
    return ", ".join(names), merge(plain, *(network.recipes.get(name, {}) for name in names))


def device_of(*layers: Values) -> str:
    """The class of the device that a training with these settings runs on."""
    return device_class(merge(*layers).get("device", TrainSettings.device))


def is_long(given: Values) -> bool:
    """Whether the budget is given in minutes, and is `LONG` or more."""
    minutes = given.get("minutes")
    return isinstance(minutes, (int, float)) and minutes >= LONG


def merge(*layers: Values) -> dict[str, Any]:
    """One dict of all layers, later ones winning. A budget replaces earlier ones of any kind: steps replace minutes."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer.keys() & BUDGETS:
            merged = {name: value for name, value in merged.items() if name not in BUDGETS}
        merged |= layer
    return merged


def choose_objective(name: str | None, arch: str, kind: type[Kind]) -> type[Objective]:
    """The objective of this name, by default the architecture's own for this kind of data.

    Raises `SettingsError` for an unknown name, or if the architecture cannot be trained for it on such data.
    """
    choices = objectives_for(arch, kind)
    if not choices:
        raise SettingsError(f"{arch} reads no {kind.noun}; choose from {', '.join(archs_for(kind))}")
    objective = objectives.load(choices[0] if name is None else name)
    if objective.name() not in choices:
        raise SettingsError(f"--objective {name} is not for {arch} on {kind.noun}; choose from {', '.join(choices)}")
    return objective


def objectives_for(arch: str, kind: type[Kind]) -> list[str]:
    """The objectives that an architecture can be trained for on a kind of data, its own first."""
    return objectives.suitable(kind.rows, archs.load(arch))


def archs_for(kind: type[Kind]) -> list[str]:
    """The architectures that can be trained on a kind of data."""
    return [name for name in archs.names() if objectives_for(name, kind)]


def kinds_for(arch: str, objective: str | None = None) -> list[str]:
    """The kinds of data that an architecture can be trained on, for this objective or any."""
    return [
        kind.name() for kind in kinds.all_kinds() if (able := objectives_for(arch, kind)) and objective in (None, *able)
    ]


def misplaced_message(name: str, owners: Sequence[type[Kind]], arch: str, kind: type[Kind] | None = None) -> str:
    """The error for a setting of `owners`, where the data are of another `kind`, or of an unknown one (None)."""
    places = []
    for owner in sorted(owners, key=lambda owner: not objectives_for(arch, owner)):
        able = "" if objectives_for(arch, owner) else f", with --arch {' or '.join(archs_for(owner))}"
        files = f": {owner.files}" if owner.files else ""
        places.append(f"{owner.noun}{files}{able}")
    instead = f"; for {kind.noun} there are {', '.join(map(flag, kind.own))}" if kind else ""
    return f"{flag(name)} is for {', or for '.join(places)}{instead}"


def unknown_message(name: str, arch: str, commands: Sequence[str] = ()) -> str:
    """The error for a setting that training `arch` does not have. `commands` are those that have such an option."""
    if of := [kind for kind in kinds.all_kinds() if name in kind.own]:
        return misplaced_message(name, of, arch)
    owners = [other for other in archs.names() if any(f.name == name for f in fields_of(archs.load(other).Config))]
    own = ", ".join(f.flag for f in fields_of(archs.load(arch).Config))
    if owners:
        return f"{flag(name)} belongs to {', '.join(owners)}; {arch} has {own}"
    of_objectives = [objectives.load(objective) for objective in objectives.names()]
    of_kinds = [kind.Settings for kind in kinds.all_kinds()]
    groups = (archs.load(arch).Config, *of_objectives, TrainSettings, *of_kinds)
    known = [f.name for group in groups for f in fields_of(group)]
    close = (
        [OTHER_NAMES[name]]
        if name in OTHER_NAMES
        else difflib.get_close_matches(name, known, 1, 0.75 if commands else 0.6)
    )
    if commands and not close:
        return f"{flag(name)} is no setting of charlm train; it belongs to {', '.join(commands)}"
    hint = f" (did you mean {flag(close[0])}?)" if close else ""
    return f"{flag(name)} is no setting of charlm train{hint}; see charlm train --arch {arch} --help"
