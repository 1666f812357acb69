"""Who is compared, and under which budget: from the command line to one plan per training.

Fair means: every training gets the same budget, reads the same text in the same order (the order depends on the rows of
a batch and on the seed alone, so all have the same number of rows), and is scored on the same bytes. A kind of data
adds what else must be equal (`charlm.kinds`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from charlm import archs, kinds, objectives, presets
from charlm.config import (
    BUDGETS,
    Arg,
    DataSettings,
    Field,
    Settings,
    TrainSettings,
    fields_of,
    flag,
    parse_value,
    setting,
)
from charlm.errors import SettingsError
from charlm.kinds._base import AnyCorpus, AnyStore
from charlm.model import Network, parameter_count
from charlm.plan import Plan, device_of, merge, unknown_message
from charlm.progress import Progress
from charlm.work import multiply_adds

Match = Literal["time", "tokens", "params", "work"]
Stores = dict[DataSettings, AnyStore]  # the data as token ids, by the settings that made them
MINUTES = 2.0
TEXT_SETTINGS = {"val_frac", "test_frac", "encoding", "alphabet"}
OBJECTIVE = Field("objective", str, Arg("what to train it for"), None)  # None: the default
TOLERANCE = 0.02  # share of the size by which matched models may differ
LARGEST = 16_384  # hidden size that is tried


def shared_settings() -> set[str]:
    """Settings that must be the same for all entrants, to be fair."""
    return {*BUDGETS, *TEXT_SETTINGS, "seed", "order", *(name for kind in kinds.all_kinds() for name in kind.batches)}


FAMILY = "family"  # stands for every preset `…-tiny` that guesses each next token


class Entrant(NamedTuple):
    """One model in the contest, with its own settings."""

    label: str  # such as lstm:hidden_size=512
    settings: dict[str, Any]  # with the architecture

    @property
    def sized(self) -> bool:
        """Whether it was given a hidden size after a colon; that of a preset may be changed."""
        return any(setting(pair.partition("=")[0].strip()) == "hidden_size" for pair in self.label.split(":")[1:])

    @property
    def is_preset(self) -> bool:
        return self.label.partition(":")[0] in presets.names()

    @classmethod
    def parse(cls, label: str) -> Entrant:
        """Read `NAME` or `NAME:setting=value:setting=value`, where a name is an architecture's or a preset's.

        Of a preset what must be the same for all is left out. Raises `SettingsError` for anything else.
        """
        name, *pairs = label.split(":")
        settings = named_settings(name)
        arch = settings["arch"]
        network = archs.load(arch)
        parts = [pair.partition("=") for pair in pairs]
        typed = [(setting(name.strip()), equals, text) for name, equals, text in parts]
        objective = objectives.load(next((text for name, _, text in typed if name == "objective"), network.objective))
        groups = (network.Config, objective, TrainSettings, *(kind.Settings for kind in kinds.all_kinds()))
        fields = {f.name: f for group in groups for f in fields_of(group)} | {"objective": OBJECTIVE}
        for name, equals, text in typed:
            if not equals:
                raise SettingsError(f"{label!r}: after a colon comes setting=value, such as lstm:hidden_size=512")
            if name not in fields:
                raise SettingsError(unknown_message(name, arch))
            if name in shared_settings():
                raise SettingsError(
                    f"{label!r}: {flag(name)} must be the same for all; give it for the whole comparison"
                )
            settings[name] = parse_value(fields[name], text)
        return cls(label, settings)


def named_settings(name: str) -> dict[str, Any]:
    """The settings of an entrant that is named by its architecture or by a preset."""
    if name not in presets.names():
        archs.load(name)  # which knows what an unknown name may have meant
        return {"arch": name}
    settings = presets.read(name)
    if "arch" not in settings:
        raise SettingsError(
            f"preset {name} is for any architecture; name one, with settings after colons: lstm:layers=2"
        )
    return {name: value for name, value in settings.items() if name not in shared_settings()}


def labels(names: str) -> list[str]:
    """The entrants in a list with commas; `family` stands for all of its members."""
    given = [name.strip() for name in names.split(",")]
    return [label for name in given for label in (family() if name == FAMILY else [name])]


def family() -> list[str]:
    """The presets of small transformers of all forms, which train on a text in minutes."""
    tiny = [name for name in presets.names() if name.endswith("-tiny")]
    return [name for name in tiny if archs.load(presets.read(name)["arch"]).objective == "causal"]


@dataclass(frozen=True)
class Contest:
    """The entrants, how often each is trained, and what is held equal."""

    entrants: tuple[Entrant, ...]
    match: Match
    seeds: int
    common: dict[str, Any]  # settings of all entrants, with the budget
    kind: str  # of data

    @classmethod
    def of(
        cls, labels: Sequence[str], match: Match, seeds: int, common: Mapping[str, Any], *, kind: str = kinds.TEXT
    ) -> Contest:
        """Raises `SettingsError` for wrong or repeated entrants, or if the budget does not suit `match`."""
        if len(set(labels)) < len(labels):
            raise SettingsError(f"--arch names something twice: {', '.join(labels)}; --seeds trains each several times")
        if match == "tokens" and not common.keys() & {"epochs", "steps"}:
            raise SettingsError("--match tokens lets all read the same text, however long it takes: give --epochs")
        if match == "time" and common.keys() & {"epochs", "steps"}:
            raise SettingsError(
                "--match time gives all the same --minutes; for --epochs or --steps, add --match tokens"
            )
        common = merge({"minutes": MINUTES, **kinds.load(kind).batches_on(device_of(common))}, common)
        return cls(tuple(Entrant.parse(label) for label in labels), match, seeds, common, kind)

    def to_dict(self) -> dict[str, Any]:
        labels = [entrant.label for entrant in self.entrants]
        return {"entrants": labels, "match": self.match, "seeds": self.seeds, "common": self.common}

    @cached_property
    def drafts(self) -> list[Plan]:
        """A plan per entrant, before sizes are matched. Raises `SettingsError` as `Plan.of` does."""
        on = device_of(self.common)
        plans = [
            Plan.of(self.common, entrant.settings, kind=self.kind, on="cpu" if entrant.is_preset else on)
            for entrant in self.entrants
        ]
        steps = {kinds.load(self.kind).step_size(plan) for plan in plans if plan.train.steps}
        if self.match == "tokens" and len(steps) > 1:
            raise SettingsError("--steps are of different sizes here; give --epochs")
        return plans

    def stores(self, corpus: AnyCorpus, cache_dir: Path | None) -> Generator[Progress, None, Stores]:
        """Read the data once for all entrants with the same data settings.

        Raises `SettingsError` if not all entrants would be given the same data.
        """
        kind, stores = kinds.load(self.kind), Stores()
        for plan in self.drafts:
            if plan.data not in stores:
                stores[plan.data] = yield from kind.prepare(corpus, plan.data, cache_dir)
        for parts in zip(*((store.train, store.validation) for store in stores.values()), strict=True):
            if not kind.equal(parts):
                raise SettingsError(kind.unequal)
        return stores

    def plans(self, stores: Stores) -> dict[str, list[Plan]]:
        """{label: a plan per seed}. Raises `SettingsError` if the sizes cannot be matched."""
        plans = self.drafts
        if self.match in SIZES:
            fixed = [entrant.sized for entrant in self.entrants]
            plans = match_sizes(plans, [stores[plan.data] for plan in plans], self.match, fixed=fixed)
        plans = kinds.load(self.kind).level(plans, [stores[plan.data] for plan in plans])
        return {
            entrant.label: [
                replace(plan, train=replace(plan.train, seed=plan.train.seed + seed)) for seed in range(self.seeds)
            ]
            for entrant, plan in zip(self.entrants, plans, strict=True)
        }


class Size(NamedTuple):
    """What hidden sizes can make equal."""

    noun: str
    of: Callable[[Network], int]  # a network on the meta device


SIZES = {
    "params": Size("parameters", parameter_count),
    "work": Size("multiply-adds per token", multiply_adds),
}


def match_sizes(
    plans: Sequence[Plan], stores: Sequence[AnyStore], match: Match, *, fixed: Sequence[bool]
) -> list[Plan]:
    """The plans, with hidden sizes that make all of them as large as the first; `fixed` ones stay unchanged.

    Raises `SettingsError` if they differ by more than 2 %.
    """
    target = size(plans[0], stores[0], match)
    sized = list(plans[:1])
    for plan, store, is_fixed in zip(plans[1:], stores[1:], fixed[1:], strict=True):
        if not is_fixed:
            plan = nearest_size(plan, store, match, target)
        if abs((nearest := size(plan, store, match)) - target) > TOLERANCE * target:
            raise SettingsError(
                f"--match {match}: {plan.arch} comes no closer to {target:,} {SIZES[match].noun} than {nearest:,}; "
                "change its other settings, such as --layers, or the first one's size"
            )
        sized.append(plan)
    return sized


def nearest_size(plan: Plan, store: AnyStore, match: Match, target: int) -> Plan:
    """The plan with the hidden size that comes nearest to the `target`."""
    low, high = 1, LARGEST
    while low < high:  # binary search for the smallest size that is large enough
        middle = (low + high) // 2
        above = next((p for h in range(middle, high + 1) if (p := resized(plan, h))), None)
        if above and size(above, store, match) < target:
            low = int(above.model.to_dict()["hidden_size"]) + 1
        else:
            high = middle
    possible = [
        next((p for h in way if (p := resized(plan, h))), None)
        for way in (range(low - 1, 0, -1), range(low, 2 * LARGEST))
    ]
    return min((p for p in possible if p), key=lambda p: abs(size(p, store, match) - target))


def resized(plan: Plan, hidden_size: int) -> Plan | None:
    """The plan with this hidden size; None if the architecture cannot have it, such as one that heads do not divide."""
    try:
        model: Settings = replace(plan.model, hidden_size=hidden_size)  # type: ignore[type-var]
    except SettingsError:
        return None
    return replace(plan, model=model)


def size(plan: Plan, store: AnyStore, match: Match) -> int:
    return SIZES[match].of(plan.outline(store.spec(plan.train)))
