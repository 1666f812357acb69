"""What is compared with what, and under which budget: from what a person asked for to one plan per training.

Fair means: every training gets the same budget, reads the same text in the same order (the order depends on the rows of
a batch and on the seed alone, so all have the same number of rows), and is scored on the same bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_origin

from charlm import archs
from charlm.config import DataSettings, DataSpec, Settings, TrainSettings, fields_of, plain
from charlm.errors import SettingsError
from charlm.model import parameter_count
from charlm.plan import BUDGETS, Plan, merge, stranger
from charlm.progress import Progress
from charlm.text.corpus import Corpus
from charlm.text.store import Store, prepare

Match = Literal["time", "tokens", "params"]
MINUTES = 2.0
ALIKE = {*BUDGETS, "val_frac", "test_frac", "encoding", "seed", "order", "batch_size"}  # or it would not be fair
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
        fields = {f.name: f for group in (kind.Config, TrainSettings, DataSettings) for f in fields_of(group)}
        settings: dict[str, Any] = {"arch": arch}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            name = name.strip().removeprefix("--").replace("-", "_")
            if not equals:
                raise SettingsError(f"{label!r}: after a colon comes setting=value, such as lstm:hidden_size=512")
            if name not in fields:
                raise SettingsError(stranger(name, arch))
            if name in ALIKE:
                flag = "--" + name.replace("_", "-")
                raise SettingsError(f"{label!r}: {flag} must be the same for all; give it for the whole comparison")
            settings[name] = value_of(fields[name].type, text)
        return cls(label, settings)


def value_of(hint: Any, text: str) -> Any:
    """`text` as a value of a field's type; what is none stays a text, for the settings to refuse."""
    kind, _ = plain(hint)
    if kind is bool:
        return {"true": True, "on": True, "false": False, "off": False}.get(text.lower(), text)
    if get_origin(kind) is None and kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


@dataclass(frozen=True)
class Contest:
    """Entrants, how often each is trained, and what is held equal."""

    entrants: tuple[Entrant, ...]
    match: Match
    seeds: int
    common: dict[str, Any]  # settings of all, the budget among them

    @classmethod
    def of(cls, labels: Sequence[str], match: Match, seeds: int, common: Mapping[str, Any]) -> Contest:
        """Raises `SettingsError` for entrants that are none or come twice, and a budget that does not suit `match`."""
        if len(set(labels)) < len(labels):
            raise SettingsError(f"--arch names something twice: {', '.join(labels)}; --seeds trains each several times")
        if match == "tokens" and not common.keys() & {"epochs", "steps"}:
            raise SettingsError("--match tokens lets all read the same text, however long it takes: give --epochs")
        if match == "time" and common.keys() & {"epochs", "steps"}:
            raise SettingsError(
                "--match time gives all the same --minutes; for --epochs or --steps, add --match tokens"
            )
        common = merge({"minutes": MINUTES, "batch_size": TrainSettings().batch_size}, common)
        return cls(tuple(Entrant.parse(label) for label in labels), match, seeds, common)

    def to_dict(self) -> dict[str, Any]:
        labels = [entrant.label for entrant in self.entrants]
        return {"entrants": labels, "match": self.match, "seeds": self.seeds, "common": self.common}

    def plans(self, corpus: Corpus, cache_dir: Path | None) -> Generator[Progress, None, dict[str, list[Plan]]]:
        """One plan per entrant and seed. Raises `SettingsError` if a number of parameters cannot be matched."""
        plans = [Plan.of(self.common, entrant.settings) for entrant in self.entrants]
        steps = {plan.train.seq_len * plan.train.accumulate for plan in plans if plan.train.steps}
        if self.match == "tokens" and len(steps) > 1:
            raise SettingsError("--steps are of different sizes here; give --epochs, or one --seq-len for all")
        if self.match == "params":
            stores: list[Store] = []
            for plan in plans:
                stores.append((yield from prepare(corpus, plan.data, cache_dir)))
            plans = same_size(plans, stores, fixed=["hidden_size" in entrant.settings for entrant in self.entrants])
        return {
            entrant.label: [
                replace(plan, train=replace(plan.train, seed=plan.train.seed + seed)) for seed in range(self.seeds)
            ]
            for entrant, plan in zip(self.entrants, plans, strict=True)
        }


def same_size(plans: Sequence[Plan], stores: Sequence[Store], *, fixed: Sequence[bool]) -> list[Plan]:
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


def nearest(plan: Plan, store: Store, target: int) -> Plan:
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


def size(plan: Plan, store: Store) -> int:
    """The number of parameters."""
    return parameter_count(plan.outline(DataSpec(store.tokenizer.vocab_size, plan.train.seq_len)))
