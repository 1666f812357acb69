"""What is compared with what, and under which budget: from what a person asked for to one plan per training.

Fair means: every training gets the same budget, reads the same text in the same order (the order depends on the rows of
a batch and on the seed alone, so all have the same number of rows), and is scored on the same bytes. Of pairs all read
the same ones, in batches of equally many tokens.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from charlm import archs
from charlm.config import BUDGETS, DataSettings, PairSettings, Settings, TrainSettings, fields_of, flag, value_of
from charlm.errors import SettingsError
from charlm.model import parameter_count
from charlm.plan import Plan, merge, stranger
from charlm.progress import Progress
from charlm.scoring import prepare_any
from charlm.text.corpus import Corpus
from charlm.text.pair_store import PairSplit, PairStore
from charlm.text.pairs import PairCorpus
from charlm.text.store import Store

Match = Literal["time", "tokens", "params"]
Stores = dict[DataSettings, Store | PairStore]  # the text as ids, once for each way in which an entrant spells it
MINUTES = 2.0
BATCHES = {"batch_size": TrainSettings.batch_size}  # in these a recipe has no say
PAIR_BATCHES = {"batch_tokens": PairSettings.batch_tokens, "max_length": PairSettings.max_length}
TEXT = {"val_frac", "test_frac", "encoding", "alphabet"}
ALIKE = {*BUDGETS, *TEXT, "seed", "order", *BATCHES, *PAIR_BATCHES}  # or it would not be fair
TOLERANCE = 0.02  # of the number of parameters
WIDEST = 16_384  # hidden size that is tried


class Entrant(NamedTuple):
    """One kind of model in the contest, as it was asked for."""

    label: str  # such as lstm:hidden_size=512
    settings: dict[str, Any]  # the architecture among them

    @classmethod
    def parse(cls, label: str) -> Entrant:
        """Read `NAME` or `NAME:setting=value:setting=value`. Raises `SettingsError` for what is no such thing."""
        arch, *pairs = label.split(":")
        kind = archs.load(arch)
        fields = {f.name: f for group in (kind.Config, TrainSettings, PairSettings) for f in fields_of(group)}
        settings: dict[str, Any] = {"arch": arch}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            name = name.strip().removeprefix("--").replace("-", "_")
            if not equals:
                raise SettingsError(f"{label!r}: after a colon comes setting=value, such as lstm:hidden_size=512")
            if name not in fields:
                raise SettingsError(stranger(name, arch))
            if name in ALIKE:
                raise SettingsError(
                    f"{label!r}: {flag(name)} must be the same for all; give it for the whole comparison"
                )
            settings[name] = value_of(fields[name], text)
        return cls(label, settings)


@dataclass(frozen=True)
class Contest:
    """Entrants, how often each is trained, and what is held equal."""

    entrants: tuple[Entrant, ...]
    match: Match
    seeds: int
    common: dict[str, Any]  # settings of all, the budget among them
    pairs: bool  # of source and target, and no running text

    @classmethod
    def of(
        cls, labels: Sequence[str], match: Match, seeds: int, common: Mapping[str, Any], *, pairs: bool = False
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
        common = merge({"minutes": MINUTES, **(PAIR_BATCHES if pairs else BATCHES)}, common)
        return cls(tuple(Entrant.parse(label) for label in labels), match, seeds, common, pairs)

    def to_dict(self) -> dict[str, Any]:
        labels = [entrant.label for entrant in self.entrants]
        return {"entrants": labels, "match": self.match, "seeds": self.seeds, "common": self.common}

    @cached_property
    def drafts(self) -> list[Plan]:
        """A plan per entrant, as it was asked for. Raises `SettingsError` for what does not fit."""
        plans = [Plan.of(self.common, entrant.settings, pairs=self.pairs) for entrant in self.entrants]
        steps = {step_size(plan) for plan in plans if plan.train.steps}
        if self.match == "tokens" and len(steps) > 1:
            hint = "" if self.pairs else ", or one --seq-len for all"
            raise SettingsError(f"--steps are of different sizes here; give --epochs{hint}")
        return plans

    def stores(self, corpus: Corpus | PairCorpus, cache_dir: Path | None) -> Generator[Progress, None, Stores]:
        """Raises `SettingsError` if not all entrants would be given the same pairs."""
        found: Stores = {}
        for plan in self.drafts:
            if plan.data not in found:
                found[plan.data] = yield from prepare_any(corpus, plan.data, cache_dir)
        pairs = [store for store in found.values() if isinstance(store, PairStore)]
        if not (same_pairs(store.train for store in pairs) and same_pairs(store.validation for store in pairs)):
            raise SettingsError(
                f"--max-length {self.common['max_length']} leaves out other pairs in one tokenizer's tokens than in "
                "another's; give a larger one"
            )
        return found

    def plans(self, stores: Stores) -> dict[str, list[Plan]]:
        """One plan per entrant and seed. Raises `SettingsError` if a number of parameters cannot be matched."""
        plans = self.drafts
        if self.match == "params":
            fixed = ["hidden_size" in entrant.settings for entrant in self.entrants]
            plans = same_size(plans, [stores[plan.data] for plan in plans], fixed=fixed)
        if not self.pairs:  # where the text is short, the longest windows leave room for fewer rows
            rows = min(stores[plan.data].batches(plan.train).batch_size for plan in plans)
            plans = [replace(plan, train=replace(plan.train, batch_size=rows)) for plan in plans]
        return {
            entrant.label: [
                replace(plan, train=replace(plan.train, seed=plan.train.seed + seed)) for seed in range(self.seeds)
            ]
            for entrant, plan in zip(self.entrants, plans, strict=True)
        }


def step_size(plan: Plan) -> object:
    """Equal where equally many steps read the same text."""
    return plan.train.accumulate, plan.data if plan.pairs else plan.train.seq_len


def same_pairs(parts: Iterable[PairSplit]) -> bool:
    """Whether they hold the same ones of one corpus."""
    return len({part.numbers.tobytes() for part in parts}) < 2


def same_size(plans: Sequence[Plan], stores: Sequence[Store | PairStore], *, fixed: Sequence[bool]) -> list[Plan]:
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


def nearest(plan: Plan, store: Store | PairStore, target: int) -> Plan:
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


def size(plan: Plan, store: Store | PairStore) -> int:
    """The number of parameters."""
    return parameter_count(plan.outline(store.spec(plan.train)))
