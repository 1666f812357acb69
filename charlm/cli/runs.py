"""`charlm runs` and `charlm info`: what was trained."""

from __future__ import annotations

import json as jsonlib
import sys
from csv import DictWriter
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli.options import Json, Run
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.views.console import count, duration, out, show, table

COLUMNS = (
    *("run", "arch", "kind", "objective", "corpus", "params", "multiply_adds", "rows", "created", "score", "unit"),
    *("progress", "finished", "step", "tokens", "seconds", "best_step"),
)


def runs(
    json: Annotated[bool, typer.Option("--json", help="one JSON object per run")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="a table with a line per run")] = False,
) -> None:
    if json and csv:
        raise SettingsError("--json and --csv are two forms of one list; give one of them")
    infos = folder.list_runs()
    if json:
        for info in infos:
            print(jsonlib.dumps({"run": info.path.as_posix(), **info.config, "training": info.training}))
        return
    if csv:
        lines = DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(map(flat, infos))
        return
    compared = folder.comparison_runs()
    if not (infos or compared):
        out.print(f"no runs in {folder.ROOT}/ yet; train one with: charlm train FILE", markup=False)
        return
    units = {info.measure.unit for info in infos}
    unit = units.pop() if len(units) == 1 else ""
    listed = table("run", "arch", ">params", f">{unit or 'score'}", ">time", "corpus", "")
    for info in infos:
        score = "-" if info.best is None else f"{info.best.value:.3f}{'' if unit else f' {info.measure.unit}'}"
        training, corpus = info.training, info.config["corpus"]["name"]
        state = "" if training.get("finished") else f"{training.get('progress', 0):.0%} done"
        time = duration(training.get("seconds", 0))
        listed.add_row(info.path.name, info.config["arch"], count(info.config["params"]), score, time, corpus, state)
    if infos:
        show(listed)
    for comparison, names in groupby(compared, lambda name: Path(name).parent):
        first, *others = names
        out.print(f"also {1 + len(others)} of the comparison {comparison}, to be named like {first}", markup=False)


def flat(info: folder.RunInfo) -> dict[str, Any]:
    """A run as a line of a table; what it lacks is empty."""
    config, training, best = info.config, info.training, info.best
    scored = {"score": best.value, "unit": best.measure.unit} if best else {}
    done = {name: training.get(name) for name in ("progress", "finished", "step", "tokens", "seconds", "best_step")}
    about = {name: config.get(name) for name in ("arch", "kind", "params", "multiply_adds", "rows", "created")}
    objective, text = next(iter(config["objective"]), ""), config["corpus"]["name"]
    return {"run": info.path.as_posix(), **about, "objective": objective, "corpus": text, **scored, **done}


def info(
    run: Run = "last",
    json: Json = False,
) -> None:
    run_info = folder.info(folder.find(run))
    values: dict[str, Any] = {"run": run_info.path.as_posix(), **run_info.config, "training": run_info.training}
    if json:
        print(jsonlib.dumps(values))
        return
    settings = table("setting", "value")
    for name, value in values.items():
        if isinstance(value, dict):
            for inner, inner_value in value.items():
                settings.add_row(f"{name}.{inner}", str(inner_value))
        else:
            settings.add_row(name, str(value))
    show(settings)
