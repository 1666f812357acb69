"""From a command line to a plan and its data: what `charlm train` and `charlm plan` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm import kinds
from charlm.asking import device_of_recipe, open_origin, settings_layers
from charlm.cli.options import with_settings
from charlm.config import LONG, DataSettings, TrainSettings

if TYPE_CHECKING:
    pass

DEFAULTS = "; ".join(
    kind.arch if kind.name() == kinds.TEXT else f"of {kind.name()} {kind.arch}" for kind in kinds.all_kinds()
)
Files = Annotated[
    list[str] | None,
    typer.Argument(
        help="text: files, a folder, a pattern, .gz, or - for standard input; pairs or labels: .tsv, .csv, .jsonl",
        show_default=False,
    ),
]
Source = Annotated[
    list[str] | None, typer.Option(help="pairs: the file of the sources, a line each", show_default=False)
]
Target = Annotated[
    list[str] | None, typer.Option(help="pairs: the file of the targets, a line each", show_default=False)
]
Arch = Annotated[
    str | None,
    typer.Option(help=f"network to train, see charlm archs \\[default: {DEFAULTS}]", show_default=False),
]
ObjectiveName = Annotated[
    str | None,
    typer.Option(help="what to train it for \\[default: what suits architecture and text]", show_default=False),
]
Preset = Annotated[str | None, typer.Option(help="named settings, see charlm presets", show_default=False)]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings, on top of a preset's", show_default=False)]
InitFrom = Annotated[
    str | None,
    typer.Option(
        help="start with the weights of this run: its network, its tokenizer, a quarter of its --lr",
        show_default=False,
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="where encoded running texts are kept \\[default: the user's cache]", show_default=False),
]


def with_plan(name: str, function: Callable[..., None], argv: Sequence[str]) -> Callable[..., None]:
    """The command `name` with the options of the architecture that `argv` chooses; without them where another command
    runs."""
    data = kinds.all_kinds()
    panels: dict[str, Any] = {"Training": TrainSettings, **{kind.name().capitalize(): kind.Settings for kind in data}}
    if name not in argv[:1] or "_CHARLM_COMPLETE" in os.environ:
        return with_settings(panels)(function)  # without importing torch
    from charlm import archs, objectives
    from charlm.plan import MINUTES, kinds_for, objectives_for, recipe

    arch = chosen_arch(argv)
    network = archs.load(arch)
    first, *others = [kind for kind in data if kind.name() in kinds_for(arch)]
    relevant = {kind.name().capitalize() for kind in (first, *others)} | {"Training"}
    origin = open_origin(typed_value(argv, "--init-from"))
    asked = kinds.named(argv, typed_value(argv, "--encoding") or DataSettings().encoding)
    asked = asked if asked in (first, *others) else first
    own = origin.settings(asked, typed_value(argv, "--objective"), frozen="--features" in argv) if origin else {}
    goal = typed_value(argv, "--objective") or own.get("objective") or objectives_for(arch, asked)[0]
    objective = objectives.load(goal)
    preset, config, device = (typed_value(argv, flag) for flag in ("--preset", "--config", "--device"))
    typed = {"device": device} if device else {}
    on = device_of_recipe(preset, config, origin, [*settings_layers(preset, config).values(), typed])
    defaults, otherwise = recipe(network, first, on, long=False)[1], dict[str, Mapping[str, Any]]()
    if first.long and not origin:
        otherwise[f"if --minutes is {LONG:g} or more"] = recipe(network, first, on, long=True)[1]
    for kind in others if not origin else ():
        otherwise[f"for {kind.name()}"] = theirs = recipe(network, kind, on, long=False)[1]
        defaults |= {name: value for name, value in theirs.items() if name in kind.own and name not in first.own}
    return with_settings(
        {
            f"Architecture: {arch}": network.Config,
            f"Objective: {objective.name()}": objective,
            **{panel: settings for panel, settings in panels.items() if panel in relevant},
        },
        {"minutes": MINUTES, **defaults, **own},
        otherwise,
    )(function)


def chosen_arch(argv: Sequence[str]) -> str:
    """The architecture of --arch, or else of the run to start from, or else of the --config file, or else of the
    --preset, or else the default."""
    arch, run = typed_value(argv, "--arch"), typed_value(argv, "--init-from")
    if arch is None and run is not None:
        from charlm.runs import folder

        arch = folder.info(folder.find(run)).config["arch"]
    if arch is None:
        layers = settings_layers(typed_value(argv, "--preset"), typed_value(argv, "--config"))
        encoding = typed_value(argv, "--encoding") or last_value(layers, "encoding") or DataSettings().encoding
        arch = last_value(layers, "arch") or default_arch(argv, encoding)
    return str(arch)


def last_value(layers: dict[str, dict[str, Any]], name: str) -> str | None:
    """The value of a setting in the last layer that has one."""
    return next((layer[name] for layer in reversed(layers.values()) if name in layer), None)


def default_arch(words: Sequence[str], encoding: str) -> str:
    """The default architecture for the files among `words`, by their names and first lines."""
    targets = any(word.partition("=")[0] == "--target" for word in words)
    return kinds.named(words, encoding, with_targets=targets).arch


def typed_value(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag on a command line that is not parsed yet; None if it is not there."""
    for word, following in zip(argv, [*argv, None][1:], strict=True):
        if word == flag:
            return following
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return None
