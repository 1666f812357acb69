"""`charlm runs` and `charlm info`: what was trained."""

from __future__ import annotations

import json as jsonlib
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli.console import count, duration, out, show, table
from charlm.cli.options import Json, Run
from charlm.runs import folder


def runs(json: Annotated[bool, typer.Option("--json", help="one JSON object per run")] = False) -> None:
    found = folder.list_runs()
    if json:
        for info in found:
            print(jsonlib.dumps({"run": str(info.path), **info.config, "training": info.training}))
        return
    compared = folder.comparison_runs()
    if not (found or compared):
        out.print(f"no runs in {folder.ROOT}/ yet; train one with: charlm train FILE", markup=False)
        return
    units = {info.measure.unit for info in found}
    alone = units.pop() if len(units) == 1 else ""
    shown = table("run", "arch", ">params", f">{alone or 'score'}", ">time", "corpus", "")
    for info in found:
        score = "-" if info.best is None else f"{info.best.value:.3f}{'' if alone else f' {info.measure.unit}'}"
        training, corpus = info.training, info.config["corpus"]["name"]
        state = "" if training.get("finished") else f"{training.get('progress', 0):.0%} done"
        time = duration(training.get("seconds", 0))
        shown.add_row(info.path.name, info.config["arch"], count(info.config["params"]), score, time, corpus, state)
    if found:
        show(shown)
    for comparison, names in groupby(compared, lambda name: Path(name).parent):
        first, *others = names
        out.print(f"also {1 + len(others)} of the comparison {comparison}, to be named like {first}", markup=False)


def info(
    run: Run = "last",
    json: Json = False,
) -> None:
    found = folder.info(folder.find(run))
    values: dict[str, Any] = {"run": str(found.path), **found.config, "training": found.training}
    if json:
        print(jsonlib.dumps(values))
        return
    shown = table("setting", "value")
    for name, value in values.items():
        if isinstance(value, dict):
            for inner, what in value.items():
                shown.add_row(f"{name}.{inner}", str(what))
        else:
            shown.add_row(name, str(value))
    show(shown)
