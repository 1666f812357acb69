"""A family of models: what its weights and its options are called by Hugging Face's library and by us, both ways."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from charlm.config import fields_of, flag
from charlm.errors import SettingsError, as_typed
from charlm.model import Network
from charlm.plan import Plan

Shape = tuple[int, ...]


class Match(NamedTuple):
    """A module of ours, and theirs with the same weights: one, or several whose rows ours has one after the other.

    `*` stands for the number of a block.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False  # theirs is a Conv1D, which keeps its matrix as (in, out)


class Source(NamedTuple):
    """Their tensors that make one of ours."""

    names: tuple[str, ...]
    transposed: bool

    def to_ours(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.T if self.transposed and t.dim() == 2 else t for t in tensors])

    def to_theirs(self, tensor: Tensor) -> dict[str, Tensor]:
        parts = tensor.chunk(len(self.names))
        return {name: t.T if self.transposed and t.dim() == 2 else t for name, t in zip(self.names, parts, strict=True)}

    def shapes(self, ours: Shape) -> dict[str, Shape]:
        """The shapes of theirs that make one of ours of this shape."""
        return {name: tuple(t.shape) for name, t in self.to_theirs(torch.empty(ours, device="meta")).items()}


class Family(ABC):
    """A family: a class without instances."""

    model: ClassVar[str]  # the class in transformers
    arch: ClassVar[str] = "transformer"
    prefix: ClassVar[str]  # of all names but the head's; files that were saved without a head lack it
    matches: ClassVar[tuple[Match, ...]]
    copies: ClassVar[tuple[str, ...]] = ()  # names of tensors that are another one's again (tied), or left out
    buffers: ClassVar[tuple[str, ...]] = ()  # ends of names of tensors that are no weights
    options: ClassVar[Mapping[str, tuple[str, ...]]]
    """Theirs by our name. The first that a config.json has is read, and all are written."""
    ours: ClassVar[Mapping[str, Any]] = {}  # settings of the model for which the family has one value
    lr: ClassVar[float]  # peak learning rate from fresh weights

    @classmethod
    @abstractmethod
    def theirs(cls, options: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Values of further options of theirs that we can compute, the default first; `options` are all the others."""

    @classmethod
    @abstractmethod
    def sizes(cls, network: Any) -> dict[str, Any]:
        """Settings that a plan may leave open, and a network of ours has decided."""

    @classmethod
    def settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Our settings for their config.json. Raises `SettingsError` if one is missing, or is none that we compute."""
        for option, allowed in cls.theirs(config).items():
            if (value := config.get(option, allowed[0])) not in allowed:
                choices = " or ".join(map(repr, allowed))
                raise SettingsError(f"its {option} is {value!r}; charlm computes a {cls.model} with {choices}")
        values: dict[str, Any] = {"arch": cls.arch, "lr": cls.lr, **cls.ours}
        for name, options in cls.options.items():
            given = [config[option] for option in options if option in config]
            if not given:
                raise SettingsError(f"it lacks {options[0]}")
            values[name] = given[0]
        return values

    @classmethod
    def config(cls, plan: Plan, network: Network) -> tuple[dict[str, Any], list[str]]:
        """Their config.json for a run, and in words the settings that the family does not have."""
        if plan.arch != cls.arch:
            return {}, [f"--arch is {plan.arch} and would have to be {cls.arch}"]
        values = plan.model.to_dict() | cls.sizes(network)
        wanted = {field.name: cls.ours.get(field.name, field.default) for field in fields_of(type(plan.model))}
        problems = [
            f"{flag(name)} is {as_typed(values[name])} and would have to be {as_typed(value)}"
            for name, value in wanted.items()
            if name not in cls.options and values[name] != value
        ]
        options = {theirs: values[name] for name, several in cls.options.items() for theirs in several}
        return options | {option: allowed[0] for option, allowed in cls.theirs(options).items()}, problems

    @classmethod
    def source(cls, ours: str) -> Source:
        """What makes our tensor of this name."""
        module, _, kind = ours.rpartition(".")
        number = "".join(re.findall(r"\b\d+\b", module))
        for match in cls.matches:
            if match.ours.replace("*", number) == module:
                return Source(tuple(f"{name.replace('*', number)}.{kind}" for name in match.theirs), match.transposed)
        raise AssertionError(f"{cls.__name__} has no match for {ours}")

    @classmethod
    def is_weight(cls, name: str) -> bool:
        return name not in cls.copies and not name.endswith(cls.buffers)
