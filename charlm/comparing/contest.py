"""Who is compared, and under which budget: from the command line to one plan per training.

Fair means: every training gets the same budget, reads the same text in the same order (the order depends on the rows of
a batch and on the seed alone, so all have the same number of rows), and is scored on the same bytes. A kind of data
adds what else must be equal (`charlm.kinds`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from charlm import kinds
from charlm.comparing.entrants import Entrant, entrants
from charlm.config import DataSettings, Settings
from charlm.errors import SettingsError
from charlm.kinds._base import AnyCorpus, AnyStore, Kind
from charlm.model import Network, parameter_count
from charlm.plan import Plan, device_of, merge
from charlm.progress import Progress
from charlm.work import multiply_adds

Match = Literal["time", "tokens", "params", "work"]
Stores = dict[str, AnyStore]  # the data as token ids, by the label of the entrant that reads them
MINUTES = 2.0
TOLERANCE = 0.02  # share of the size by which matched models may differ
LARGEST = 16_384  # hidden size that is tried


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
        cls,
        names: Sequence[str],
        match: Match,
        seeds: int,
        common: Mapping[str, Any],
        *,
        kind: str = kinds.TEXT,
        starts: Sequence[str] = (),
        counts: Sequence[str] = (),
    ) -> Contest:
        """`names`, `starts` and `counts` are those of `entrants`.

        Raises `SettingsError` as that does, for runs that cannot start such trainings, and if the budget does not suit
        `match`.
        """
        if match == "tokens" and not common.keys() & {"epochs", "steps"}:
            raise SettingsError("--match tokens lets all read the same text, however long it takes: give --epochs")
        if match == "time" and common.keys() & {"epochs", "steps"}:
            raise SettingsError(
                "--match time gives all the same --minutes; for --epochs or --steps, add --match tokens"
            )
        data, entered = kinds.load(kind), tuple(entrants(names, starts, counts))
        refuse_counts(counts, data, common)
        for origin, entrant in ((entrant.origin, entrant) for entrant in entered):
            if origin:
                origin.refuse_kind(data)
                origin.refuse({**common, **entrant.settings})
        equal = {**data.batches_on(device_of(common)), **shortest(entered, data)}
        return cls(entered, match, seeds, merge({"minutes": MINUTES, **equal}, common), kind)

    def to_dict(self) -> dict[str, Any]:
        labels = [entrant.label for entrant in self.entrants]
        runs = {entrant.label: str(entrant.like.path.resolve()) for entrant in self.entrants if entrant.like}
        asked = {"entrants": labels, "match": self.match, "seeds": self.seeds, "common": self.common}
        return asked | ({"runs": runs} if runs else {})

    @cached_property
    def drafts(self) -> list[Plan]:
        """A plan per entrant, before sizes are matched. Raises `SettingsError` as `Plan.of` does."""
        on = device_of(self.common)
        kind, plans = kinds.load(self.kind), []
        for entrant in self.entrants:
            as_it_is = entrant.is_preset or entrant.like
            layers = entrant.inherited(kind), self.common, entrant.settings
            plans.append(Plan.of(*layers, kind=self.kind, on="cpu" if as_it_is else on))
        steps = {kind.step_size(plan) for plan in plans if plan.train.steps}
        if self.match == "tokens" and len(steps) > 1:
            raise SettingsError("--steps are of different sizes here; give --epochs")
        return plans

    def stores(self, corpus: AnyCorpus, cache_dir: Path | None) -> Generator[Progress, None, Stores]:
        """Read the data once for all entrants with the same data settings and the same vocabulary to start with.

        Raises `SettingsError` if not all entrants would be given the same data, but for the number of labelled texts.
        """
        kind, stores = kinds.load(self.kind), Stores()
        made: dict[tuple[DataSettings, str], AnyStore] = {}
        for entrant, plan in zip(self.entrants, self.drafts, strict=True):
            vocabularies = entrant.origin.vocabularies if entrant.origin else None
            key = plan.data, vocabularies.sha256 if vocabularies else ""
            if key not in made:
                made[key] = yield from kind.prepare(corpus, plan.data, cache_dir, vocabularies)
            stores[entrant.label] = made[key]
        numbers = dict.fromkeys(entrant.count for entrant in self.entrants)
        learnt = [[stores[e.label].train for e in self.entrants if e.count == number] for number in numbers]
        held_out = [[part(store) for store in made.values()] for part in (attrgetter("validation"), kind.measured)]
        if not all(kind.equal(parts) for parts in (*held_out, *learnt)):
            raise SettingsError(kind.unequal)
        for entrant in self.entrants:
            refuse_too_many(entrant, stores[entrant.label], kind)
        return stores

    def plans(self, stores: Stores) -> dict[str, list[Plan]]:
        """{label: a plan per seed}. Raises `SettingsError` if the sizes cannot be matched."""
        plans, read = self.drafts, [stores[entrant.label] for entrant in self.entrants]
        if self.match in SIZES:
            fixed = [entrant.sized for entrant in self.entrants]
            plans = match_sizes(plans, read, self.match, fixed=fixed)
        plans = kinds.load(self.kind).level(plans, read)
        return {
            entrant.label: [
                replace(plan, train=replace(plan.train, seed=plan.train.seed + seed)) for seed in range(self.seeds)
            ]
            for entrant, plan in zip(self.entrants, plans, strict=True)
        }


def shortest(entered: Sequence[Entrant], kind: type[Kind]) -> dict[str, Any]:
    """What must be the same for all and runs have a bound for: the longest text that all of them can read."""
    own = [entrant.inherited(kind) for entrant in entered]
    known = {name: [each[name] for each in own if name in each] for name in kind.batches}
    return {name: min(values) for name, values in known.items() if values}


def refuse_counts(counts: Sequence[str], kind: type[Kind], common: Mapping[str, Any]) -> None:
    """Raise `SettingsError` for numbers of labelled texts where there are no labels, or another number is given."""
    if counts and "label_count" not in kind.own:
        labels = kinds.load("labels")
        raise SettingsError(f"--label-counts is for {labels.noun}: {labels.files}; these files hold {kind.noun}")
    if counts and common.get("label_count") is not None:
        raise SettingsError("--label-count gives all as many labelled texts as --label-counts varies; give one of them")


def refuse_too_many(entrant: Entrant, store: AnyStore, kind: type[Kind]) -> None:
    """Raise `SettingsError` if an entrant is to learn from more labelled texts than there are."""
    wanted, size = entrant.settings.get("label_count"), kind.size(store.train)
    if wanted and wanted > size + len(store.vocabularies.classes):  # of each class a whole number
        raise SettingsError(
            f"--label-counts {entrant.count}: there are {size:,} labelled texts to learn from; give fewer, or all"
        )


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
