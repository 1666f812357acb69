"""What is asked of a training or a comparison, in words and names: files, presets, settings, runs to start from.

The command line and Python both ask here, and get a plan and its data. Nothing imports torch before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from charlm import kinds, presets
from charlm.config import DataSettings, flag
from charlm.errors import CorpusError, SettingsError

if TYPE_CHECKING:
    from charlm.kinds._base import AnyCorpus, Kind
    from charlm.plan import Plan
    from charlm.runs.origin import Origin
    from charlm.runs.teacher import Teacher

Files = Sequence[str] | None


class Asked(NamedTuple):
    """A training that was asked for: its plan, its data, and the run whose weights it starts with, if any."""

    plan: Plan
    corpus: AnyCorpus
    origin: Origin | None


def asked(
    function: Callable[..., Any],
    files: Files,
    given: dict[str, Any],
    *,
    source: Files = None,
    target: Files = None,
    arch: str | None = None,
    objective: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    init_from: str | None = None,
) -> Asked:
    """The training with the settings in `given`. `function` is the one that was called: no file may set its options.

    Raises `SettingsError` for settings that do not fit, `CorpusError` for files that hold no data to train on.
    """
    origin = open_origin(init_from)
    layers, typed, on = requested(given, arch, objective, preset, config, origin)
    with errors_name_source(layers, typed, function):
        plan, corpus = make_plan([*layers.values(), typed], files, source, target, origin, on)
    return Asked(plan, corpus, origin)


def settings_layers(preset: str | None, config: Path | str | None) -> dict[str, dict[str, Any]]:
    """The settings of a preset and of a file, by a name for their source."""
    layers = {f"preset {preset}": presets.read(preset)} if preset is not None else {}
    return layers | ({str(config): presets.read_settings(Path(config))} if config is not None else {})


def device_of_recipe(
    preset: str | None, config: Path | str | None, origin: Origin | None, layers: Sequence[Mapping[str, Any]]
) -> str:
    """The class of device whose recipe holds the defaults. A preset, on which a file may be built, and a run to start
    from mean the same on every device: below them stands the recipe of a CPU."""
    from charlm.plan import device_of

    based = config is not None and presets.has_base(Path(config))
    return "cpu" if preset is not None or origin is not None or based else device_of(*layers)


def requested(
    given: dict[str, Any],
    arch: str | None,
    objective: str | None,
    preset: str | None,
    config: Path | None,
    origin: Origin | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], str]:
    """The layers of a preset and of a file, the settings that were typed, and the class of device whose recipe stands
    below both."""
    layers, named = settings_layers(preset, config), {"arch": arch, "objective": objective}
    typed = given | {name: value for name, value in named.items() if value is not None}
    return layers, typed, device_of_recipe(preset, config, origin, [*layers.values(), typed])


@contextmanager
def errors_name_source(
    layers: dict[str, dict[str, Any]], typed: Mapping[str, Any], function: Callable[..., None]
) -> Iterator[None]:
    """Adds to an error about a setting that was not typed the preset or file that it comes from.

    `function` is the command's, whose own options no file may set.
    """
    try:
        yield
    except SettingsError as error:
        name = error.field or ""
        source = next((source for source in reversed(layers) if name in layers[source].keys() - typed.keys()), None)
        if source is None:
            raise
        if name in signature(function).parameters.keys() - {"arch", "objective"}:  # those a preset may hold
            raise SettingsError(
                f"{source}: {name} is no setting of a file; give it as {flag(name)}", field=name
            ) from None
        arch = f", which is for {layers[source]['arch']}" if "arch" in layers[source] else ""
        raise error.at(f"{source}{arch}") from None


def open_origin(run: str | None) -> Origin | None:
    """The run to start from, if one is named."""
    if run is None:
        return None
    from charlm.runs.origin import Origin

    return Origin(run)


def open_teacher(asked: Mapping[str, Any]) -> Teacher | None:
    """The run whose guesses are to be learnt, if one is named."""
    if not str(asked.get("objective")).startswith("distill") or not asked.get("teacher"):
        return None
    from charlm.runs.teacher import Teacher

    return Teacher(asked["teacher"])


def make_plan(
    layers: list[dict[str, Any]],
    corpus: Files,
    source: Files,
    target: Files,
    origin: Origin | None,
    on: str,
) -> tuple[Plan, AnyCorpus]:
    """(plan, corpus), for the kind of data that the files hold of those that the architecture reads, or of the kind
    that the run to start from was trained on; with the recipe of the class of device `on`."""
    from charlm.plan import Plan, kinds_for, merge

    if not (corpus or source or target):
        raise SettingsError("what text? charlm train FILE, or charlm demo to see it work on a bundled one")
    given = merge(*layers)
    if origin:
        origin.refuse(given)
    else:
        encoding = given.get("encoding", DataSettings().encoding)
        arch = {"arch": kinds.named(corpus or (), encoding, with_targets=bool(target)).arch}
        layers, given = [arch, *layers], {**arch, **given}
    if teacher := open_teacher(given):
        teacher.refuse(given)
        layers, given = [*layers, teacher.settings], {**given, **teacher.settings}
    readable = kinds_for(origin.plan.arch if origin else given["arch"], given.get("objective"))
    kind, text = text_to_train_on(corpus, source, target, given, readable)
    if origin:
        origin.refuse_kind(kind)
        frozen = bool(given.get("features"))
        layers = [origin.settings(kind, given.get("objective"), frozen=frozen), *layers]
    return Plan.of(*layers, kind=kind.name(), on=on), text


def hint(plan: Plan, text: AnyCorpus) -> str:
    """A note if the files look like another kind of data than the one that they are read as, or an empty text."""
    from charlm.plan import kinds_for
    from charlm.text.corpus import Corpus

    if plan.kind == kinds.TEXT and isinstance(text, Corpus):
        with suppress(CorpusError):  # it is of several kinds
            if (kind := kinds.claimant(text)).name() not in kinds_for(plan.arch):
                fact = f"{text.paths[0]} holds {kind.noun}, of which {plan.arch} reads the lines as they stand"
                return f"{fact}; to learn from them as such, train with --arch {kind.arch}"
    return ""


def text_to_train_on(
    files: Files, source: Files, target: Files, given: Mapping[str, Any], readable: Collection[str]
) -> tuple[type[Kind], AnyCorpus]:
    """(kind, corpus) of the files, of one of the kinds that are `readable`."""
    if bool(source) != bool(target) or (files and source):
        raise SettingsError("pairs are one file of two columns, or two files: --source FILE --target FILE")
    encoding = given.get("encoding", DataSettings().encoding)
    return kinds.open_any(files or source or (), target or (), encoding, readable)


def other_data(
    kind: type[Kind], named: Mapping[str, Files], encoding: str | None, source: Files = None, target: Files = None
) -> AnyCorpus | None:
    """The data in files, to be used instead of the run's own, which are of `kind`; None without files.

    `named` are files by the option that names them; `source` and `target` are the two sides of pairs.
    Raises `SettingsError` for data of another kind.
    """
    if bool(source) != bool(target):
        raise SettingsError("--source and --target belong together: line n of one to line n of the other")
    wrong = [option for option, files in named.items() if files and option != kind.option]
    if wrong or (source and not kind.has_source):
        raise SettingsError(f"this run was trained on {kind.noun}; score it on others with --{kind.option} FILE")
    files = named.get(kind.option) or source
    return kind.open(files, target or (), or_default(encoding)) if files else None


def or_default(encoding: str | None) -> str:
    """The encoding of other texts than the run's own, by default UTF-8 and not the run's."""
    return encoding or DataSettings().encoding


def refuse_unused(encoding: str | None, *, read: bool, advice: str) -> None:
    """Raise `SettingsError` for an encoding if no text is `read`; `advice` are the options that name one."""
    if encoding and not read:
        raise SettingsError(f"--encoding {encoding} is for a text that is read, and none is named; give {advice}")
