"""Who enters a comparison: architectures and presets, with settings, with runs to start from, with labelled texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charlm import archs, kinds, objectives, presets
from charlm.config import BUDGETS, Arg, Field, TrainSettings, fields_of, flag, parse_value, setting
from charlm.errors import SettingsError
from charlm.kinds._base import Kind
from charlm.plan import unknown_message
from charlm.runs.origin import VOCABULARY, Origin
from charlm.text.label_store import LabelSettings

TEXT_SETTINGS = {"val_frac", "test_frac", "encoding", "alphabet"}
OBJECTIVE = Field("objective", str, Arg("what to train it for"), None)  # None: the default
FAMILY = "family"  # stands for every preset `…-tiny` that guesses each next token
NONE = "none"  # among runs to start from: drawn weights
ALL = "all"  # among numbers of labelled texts: as many as there are


def shared_settings() -> set[str]:
    """Settings that must be the same for all entrants, to be fair."""
    return {*BUDGETS, *TEXT_SETTINGS, "seed", "order", *(name for kind in kinds.all_kinds() for name in kind.batches)}


@dataclass(frozen=True)
class Entrant:
    """One model in the contest, with its own settings."""

    name: str  # such as lstm:hidden_size=512
    settings: dict[str, Any]  # with the architecture
    like: Origin | None = None  # the run whose network and tokenizer settings it has
    drawn: bool = True  # whether its weights are drawn, and not those of that run
    start: str = ""  # where its weights come from, in words; "" where nothing was asked of that
    count: str = ""  # labelled texts that it learns from, if entrants differ in that

    @property
    def line(self) -> str:
        """What it is called together with those that differ from it in the number of labelled texts alone."""
        return f"{self.name} {self.start}".rstrip()

    @property
    def label(self) -> str:
        return f"{self.line}, {self.count} labels" if self.count else self.line

    @property
    def arch(self) -> str:
        return str(self.settings["arch"])

    @property
    def sized(self) -> bool:
        """Whether it has a hidden size from a run or after a colon; that of a preset may be changed."""
        given = {setting(pair.partition("=")[0].strip()) for pair in self.name.split(":")[1:]}
        return self.like is not None or "hidden_size" in given

    @property
    def is_preset(self) -> bool:
        return self.name.partition(":")[0] in presets.names()

    @property
    def origin(self) -> Origin | None:
        """The run whose weights it starts from."""
        return None if self.drawn else self.like

    def inherited(self, kind: type[Kind]) -> dict[str, Any]:
        """The settings that it has from a run: network and tokenizer, and with its weights a lower learning rate."""
        own = self.like.settings(kind, self.settings.get("objective")) if self.like else {}
        return {name: value for name, value in own.items() if not (self.drawn and name == "lr")}

    @classmethod
    def parse(cls, name: str) -> Entrant:
        """Read `NAME` or `NAME:setting=value:setting=value`, where a name is an architecture's or a preset's.

        Of a preset what must be the same for all is left out. Raises `SettingsError` for anything else.
        """
        first, *pairs = name.split(":")
        settings = named_settings(first)
        arch = settings["arch"]
        network = archs.load(arch)
        parts = [pair.partition("=") for pair in pairs]
        typed = [(setting(own.strip()), equals, text) for own, equals, text in parts]
        named = [text for own, _, text in typed if own == "objective"]
        goals = map(objectives.load, named or objectives.names())  # the kind of data may decide which it is
        suited = [goal for goal in goals if named or goal.suits(network)]
        groups = (network.Config, *suited, TrainSettings, *(kind.Settings for kind in kinds.all_kinds()))
        fields = {f.name: f for group in groups for f in fields_of(group)} | {"objective": OBJECTIVE}
        for own, equals, text in typed:
            if not equals:
                raise SettingsError(f"{name!r}: after a colon comes setting=value, such as lstm:hidden_size=512")
            if own not in fields:
                raise SettingsError(unknown_message(own, arch))
            if own in shared_settings():
                raise SettingsError(f"{name!r}: {flag(own)} must be the same for all; give it for the whole comparison")
            settings[own] = parse_value(fields[own], text)
        return cls(name, settings)


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


def listed(words: str | None) -> list[str]:
    """What stands between commas."""
    return [] if words is None else [word.strip() for word in words.split(",")]


def labels(names: str | None) -> list[str]:
    """The entrants in a list with commas; `family` stands for all of its members."""
    return [label for name in listed(names) for label in (family() if name == FAMILY else [name])]


def family() -> list[str]:
    """The presets of small transformers of all forms, which train on a text in minutes."""
    tiny = [name for name in presets.names() if name.endswith("-tiny")]
    return [name for name in tiny if archs.load(presets.read(name)["arch"]).objective == "causal"]


def entrants(names: Sequence[str], starts: Sequence[str] = (), counts: Sequence[str] = ()) -> list[Entrant]:
    """Every model of `names` from every one of `starts` with every number of labelled texts in `counts`.

    A start is a run, which starts the models of its own architecture, or `none`: the same with drawn weights, of the
    size that these runs have. Without names the architectures are those of the runs. A count may be `all`.
    Raises `SettingsError` for what is named twice, for a run of an architecture that is not among the names, and for
    counts that are no numbers.
    """
    for option, given in (("--arch", names), ("--init-from", starts), ("--label-counts", counts)):
        if len(set(given)) < len(given):
            advice = "; --seeds trains each several times" if option == "--arch" else ""
            raise SettingsError(f"{option} names something twice: {', '.join(given)}{advice}")
    runs = {start: Origin(start) for start in starts if start != NONE}
    models = [Entrant.parse(name) for name in names or dict.fromkeys(run.plan.arch for run in runs.values())]
    refuse_starts(models, runs, starts)
    started = [each for model in models for each in begun(model, runs, starts)] if starts else models
    return [each for one in started for each in counted(one, counts)] if counts else started


def refuse_starts(models: Sequence[Entrant], runs: Mapping[str, Origin], starts: Sequence[str]) -> None:
    """Raise `SettingsError` for a run that starts no model, and for a model that nothing starts."""
    asked = [model.arch for model in models]
    for start, run in runs.items():
        if run.plan.arch not in asked:
            raise SettingsError(
                f"--init-from {start}: its network is {run.plan.arch}, which is not among --arch {','.join(asked)}; "
                "add it, or leave --arch out: the architectures are then those of the runs"
            )
    for arch in asked if starts and NONE not in starts else ():
        if arch not in [run.plan.arch for run in runs.values()]:
            raise SettingsError(f"--init-from names no run of {arch}; add one, or none, which draws the weights")


def begun(model: Entrant, runs: Mapping[str, Origin], starts: Sequence[str]) -> Iterator[Entrant]:
    """The model from each of the runs of its architecture; and if `none` is among the starts, with drawn weights: once
    for each network that these runs have."""
    own = {start: run for start, run in runs.items() if run.plan.arch == model.arch}
    paths = Counter(run.path.name for run in runs.values())
    known = {start: run.path.name if paths[run.path.name] == 1 else start for start, run in own.items()}
    for start, run in own.items():
        yield replace(model, like=run, drawn=False, start=f"from {known[start]}")
    if NONE not in starts:
        return
    networks: dict[object, str] = {}
    for start, run in own.items():
        data = run.plan.data.to_dict()
        networks.setdefault((run.plan.model, *map(data.get, VOCABULARY)), start)
    for start in networks.values():
        name = "from nothing" if len(networks) == 1 else f"like {known[start]}, from nothing"
        yield replace(model, like=own[start], start=name)
    if not own:
        yield replace(model, start="from nothing")


def counted(model: Entrant, counts: Sequence[str]) -> Iterator[Entrant]:
    """The model with each number of labelled texts to learn from."""
    field = next(f for f in fields_of(LabelSettings) if f.name == "label_count")
    for count in counts:
        number = None if count == ALL else parse_value(field, count)
        yield replace(model, settings={**model.settings, field.name: number}, count=count)
