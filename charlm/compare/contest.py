"""What is compared with what, and under which budget: from what a person asked for to one plan per training.

Fair means: every training gets the same budget, reads the same text in the same order (the order depends on the rows of
a batch and on the seed alone, so all have the same number of rows), and is scored on the same bytes. What more that
takes the kind of data knows (`charlm.kinds`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from charlm import archs, kinds, objectives
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
)
from charlm.errors import SettingsError
from charlm.kinds._base import AnyCorpus, AnyStore
from charlm.model import parameter_count
from charlm.plan import Plan, merge, unknown_message
from charlm.progress import Progress

Match = Literal["time", "tokens", "params"]
Stores = dict[DataSettings, AnyStore]  # the data as ids, once for each way in which an entrant spells it
MINUTES = 2.0
TEXT = {"val_frac", "test_frac", "encoding", "alphabet"}
OBJECTIVE = Field("objective", str, Arg("what to train it for"), None)  # by default what suits
TOLERANCE = 0.02  # of the number of parameters
WIDEST = 16_384  # hidden size that is tried


def alike() -> set[str]:
    """Settings that must be the same for all, or it would not be fair."""
    return {*BUDGETS, *TEXT, "seed", "order", *(name for kind in kinds.all_kinds() for name in kind.batches)}


class Entrant(NamedTuple):
    """One kind of model in the contest, as it was asked for."""

    label: str  # such as lstm:hidden_size=512
    settings: dict[str, Any]  # the architecture among them

    @classmethod
    def parse(cls, label: str) -> Entrant:
        """Read `NAME` or `NAME:setting=value:setting=value`. Raises `SettingsError` for what is no such thing."""
        arch, *pairs = label.split(":")
        network = archs.load(arch)
        settings: dict[str, Any] = {"arch": arch}
        split = [pair.partition("=") for pair in pairs]
        named = [(name.strip().removeprefix("--").replace("-", "_"), equals, text) for name, equals, text in split]
        goal = objectives.load(next((text for name, _, text in named if name == "objective"), network.objective))
        groups = (network.Config, goal, TrainSettings, *(kind.Settings for kind in kinds.all_kinds()))
        fields = {f.name: f for group in groups for f in fields_of(group)} | {"objective": OBJECTIVE}
        for name, equals, text in named:
            if not equals:
                raise SettingsError(f"{label!r}: after a colon comes setting=value, such as lstm:hidden_size=512")
            if name not in fields:
                raise SettingsError(unknown_message(name, arch))
            if name in alike():
                raise SettingsError(
                    f"{label!r}: {flag(name)} must be the same for all; give it for the whole comparison"
                )
            settings[name] = parse_value(fields[name], text)
        return cls(label, settings)


@dataclass(frozen=True)
class Contest:
    """Entrants, how often each is trained, and what is held equal."""

    entrants: tuple[Entrant, ...]
    match: Match
    seeds: int
    common: dict[str, Any]  # settings of all, the budget among them
    kind: str  # of data

    @classmethod
    def of(
        cls, labels: Sequence[str], match: Match, seeds: int, common: Mapping[str, Any], *, kind: str = kinds.TEXT
    ) -> Contest:
        """Raises `SettingsError` for entrants that are none or come twice, and a budget that does not suit `match`."""
        if len(set(labels)) < len(labels):
            raise SettingsError(f"--arch names something twice: {', '.join(labels)}; --seeds trains each several times")
        if match == "tokens" and not common.keys() & {"epochs", "steps"}:
            raise SettingsError("--match tokens lets all read the same text, however long it takes: give --epochs")
        if match == "time" and common.keys() & {"epochs", "steps"}:
            raise SettingsError(
                "--match time gives all the same --minutes; for --epochs or --steps, add --match tokens"
            )
        common = merge({"minutes": MINUTES, **kinds.load(kind).batches}, common)
        return cls(tuple(Entrant.parse(label) for label in labels), match, seeds, common, kind)

    def to_dict(self) -> dict[str, Any]:
        labels = [entrant.label for entrant in self.entrants]
        return {"entrants": labels, "match": self.match, "seeds": self.seeds, "common": self.common}

    @cached_property
    def drafts(self) -> list[Plan]:
        """A plan per entrant, as it was asked for. Raises `SettingsError` for what does not fit."""
        plans = [Plan.of(self.common, entrant.settings, kind=self.kind) for entrant in self.entrants]
        steps = {kinds.load(self.kind).step_size(plan) for plan in plans if plan.train.steps}
        if self.match == "tokens" and len(steps) > 1:
            raise SettingsError("--steps are of different sizes here; give --epochs")
        return plans

    def stores(self, corpus: AnyCorpus, cache_dir: Path | None) -> Generator[Progress, None, Stores]:
        """Raises `SettingsError` if not all entrants would be given the same data."""
        kind, stores = kinds.load(self.kind), Stores()
        for plan in self.drafts:
            if plan.data not in stores:
                stores[plan.data] = yield from kind.prepare(corpus, plan.data, cache_dir)
        for parts in zip(*((store.train, store.validation) for store in stores.values()), strict=True):
            if not kind.equal(parts):
                raise SettingsError(kind.unequal)
        return stores

    def plans(self, stores: Stores) -> dict[str, list[Plan]]:
        """One plan per entrant and seed. Raises `SettingsError` if a number of parameters cannot be matched."""
        plans = self.drafts
        if self.match == "params":
            fixed = ["hidden_size" in entrant.settings for entrant in self.entrants]
            plans = same_size(plans, [stores[plan.data] for plan in plans], fixed=fixed)
        plans = kinds.load(self.kind).level(plans, [stores[plan.data] for plan in plans])
        return {
            entrant.label: [
                replace(plan, train=replace(plan.train, seed=plan.train.seed + seed)) for seed in range(self.seeds)
            ]
            for entrant, plan in zip(self.entrants, plans, strict=True)
        }


def same_size(plans: Sequence[Plan], stores: Sequence[AnyStore], *, fixed: Sequence[bool]) -> list[Plan]:
    """The plans with hidden sizes that give all the parameters of the first; those that are `fixed` stay as they are.

    Raises `SettingsError` if no hidden size comes within 2 %.
    """
    target = size(plans[0], stores[0])
    sized = list(plans[:1])
    for plan, store, stays in zip(plans[1:], stores[1:], fixed[1:], strict=True):
        if not stays:
            plan = nearest(plan, store, target)
        if abs((found := size(plan, store)) - target) > TOLERANCE * target:
            raise SettingsError(
                f"--match params: {plan.arch} comes no closer to {target:,} parameters than {found:,}; "
                "change its other settings, such as --layers, or the first one's size"
            )
        sized.append(plan)
    return sized


def nearest(plan: Plan, store: AnyStore, target: int) -> Plan:
    """The plan with the hidden size whose number of parameters is nearest to `target`."""
    low, high = 1, WIDEST
    while low < high:  # the smallest of them that is large enough
        middle = (low + high) // 2
        above = next((p for h in range(middle, high + 1) if (p := resized(plan, h))), None)
        if above and size(above, store) < target:
            low = hidden(above) + 1
        else:
            high = middle
    around = [p for h in range(max(1, low - 64), low + 65) if (p := resized(plan, h))]
    return min(around, key=lambda p: abs(size(p, store) - target))


def resized(plan: Plan, hidden_size: int) -> Plan | None:
    """None if the architecture cannot have that size, such as one that its heads do not divide."""
    try:
        model: Settings = replace(plan.model, hidden_size=hidden_size)  # type: ignore[type-var]
    except SettingsError:
        return None
    return replace(plan, model=model)


def hidden(plan: Plan) -> int:
    return int(plan.model.to_dict()["hidden_size"])


def size(plan: Plan, store: AnyStore) -> int:
    """The number of parameters."""
    return parameter_count(plan.outline(store.spec(plan.train)))
