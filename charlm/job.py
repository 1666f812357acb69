"""The whole job, from a corpus to a run folder, as a generator of events. The caller draws, logs and stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from charlm import kinds
from charlm.asking import asked, hint
from charlm.config import BUDGETS, TrainSettings, flag
from charlm.course import Course
from charlm.errors import SettingsError
from charlm.events import Control, Event, Note
from charlm.kinds._base import AnyCorpus
from charlm.plan import Plan, merge
from charlm.processes import begun_before, lead
from charlm.runs import folder
from charlm.runs.origin import Origin
from charlm.runs.teacher import Teacher, taught
from charlm.scoring import run_data
from charlm.training.world import World


def begin(
    function: Callable[..., Any],
    files: Sequence[str] | None,
    given: dict[str, Any],
    *,
    out: Path | None = None,
    again: str | None = None,
    previous: bool = False,
    cache_dir: Path | None = None,
    stop_after: int | None = None,
    control: Control | None = None,
    world: World | None = None,
    **names: Any,
) -> Iterator[Event]:
    """What was asked of `function`, by a command line or from Python: a new training, or the resume of a run, `again`.

    `given` are settings, and `names` the other arguments of `charlm.asking.asked`. Raises as that and `train` do, and
    `SettingsError` for what does not go with a resume.
    """
    session: Any = {"cache_dir": cache_dir, "stop_after": stop_after, "control": control, "world": world}
    if again is not None:
        if files or out or any(names.values()):
            raise SettingsError("--resume takes text and settings from the run; give only a larger budget with it")
        return resume(folder.find(again), changes=given, previous=previous, **session)
    if previous:
        raise SettingsError("--previous goes back in a run; say which: --resume RUN --previous")
    plan, text, origin = asked(function, files, given, **names)
    if begun := begun_before(plan, text, out):
        notes = [f"goes on with {begun}, which this launch has begun", hint(plan, text)]
        events = resume(begun, changes={"parallel": plan.train.parallel}, **session)
    else:
        notes, events = [hint(plan, text)], train(plan, text, out=out, origin=origin, **session)
    return chain((Note(note) for note in notes if note), events)


def train(
    plan: Plan,
    corpus: AnyCorpus,
    *,
    out: Path | None = None,
    origin: Origin | None = None,
    cache_dir: Path | None = None,
    stop_after: int | None = None,
    control: Control | None = None,
    world: World | None = None,
) -> Iterator[Event]:
    """Train from the beginning into a new folder, `out` or one named after the corpus and the architecture.

    The first weights may be those of `origin`. After `stop_after` steps it saves and stops, for a resume; `control` can
    stop it or make it save at any time. The first of several processes (`world`) leads the others. Raises `RunError` if
    the folder holds a run, is in use or cannot be written, or if the loss is not finite whatever the learning rate.
    """
    if plan.objective.starts_from_run and not origin:
        raise SettingsError("--features is for a trained network; name its run: --init-from RUN", field="features")
    known = origin or Teacher.of(plan)
    vocabularies = known.vocabularies if known else None
    store = yield from kinds.load(plan.kind).prepare(corpus, plan.data, cache_dir, vocabularies)
    plan = taught(plan, store.vocabularies, several=world is not None and world.size > 1)
    course = Course(plan, store, control, world)  # raises for what cannot be trained, before there is a folder
    if origin:
        yield Note(origin.give(course.trainer, course.record, store.vocabularies))
    path = course.record.path = folder.claim(out, f"{corpus.name}-{plan.arch}")
    with folder.locked(path), lead(course.trainer, course.plan, store, corpus.paths, corpus.targets, cache_dir):
        course.pause()
        course.record.begin(course.plan, store, corpus, course.trainer, course.writer.model, course.work)
        yield from course.run(stop_after)


CHANGEABLE = {*BUDGETS, "device", "parallel", "precision", "compile", "eval_every", "save_every", "patience"}


def resume(
    path: Path,
    *,
    changes: dict[str, Any],
    previous: bool = False,
    cache_dir: Path | None = None,
    stop_after: int | None = None,
    control: Control | None = None,
    world: World | None = None,
) -> Iterator[Event]:
    """Resume a run at its last checkpoint, or with `previous` at the one before. `changes` are new values of settings
    in `CHANGEABLE`; a budget counts from the start of the run. Other arguments and errors are those of `train`.

    Raises `RunError` for a damaged folder and a lost or changed corpus, `SettingsError` for a spent budget.
    """
    info = folder.info(path)
    plan = Plan.from_dict(info.config)
    if forbidden := sorted(changes.keys() - CHANGEABLE):
        flags = ", ".join(map(flag, forbidden))
        raise SettingsError(f"{flags} would make {path} another run; with --resume the budget may change, not that")
    plan = replace(plan, train=TrainSettings(**merge(plan.train.to_dict(), changes)))
    store = yield from run_data(info, cache_dir)
    plan = taught(plan, store.vocabularies, several=world is not None and world.size > 1)
    course, files = Course(plan, store, control, world), info.config["corpus"]
    with folder.locked(path), lead(course.trainer, course.plan, store, files["paths"], files["targets"], cache_dir):
        course.record.path = path
        if previous:
            course.record.go_back(course.trainer)
        course.record.restore(course.trainer)
        course.record.meter.resume(info.training.get("energy"))
        if info.training.get("finished") and not previous and course.trainer.progress() == 1:
            spent = " ".join(f"{flag(name)} {value}" for name, value in plan.train.budgets.items())
            raise SettingsError(f"{path} has had its {spent}; to go on, give more in total, such as twice that")
        folder.write_json(path / "config.json", info.config | plan.to_dict())
        yield from course.run(stop_after)
