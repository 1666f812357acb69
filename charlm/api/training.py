"""`charlm.train`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charlm import job
from charlm.api.keywords import in_keywords, in_python, name_of, names_of
from charlm.api.run import Run
from charlm.config import TrainSettings, fields_of
from charlm.events import Ended, Event, Started, Stopped
from charlm.plan import Plan
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.signals import handle_signals, until_interrupted
from charlm.views import console, notebook
from charlm.views.training import Advice, Lines, Silent, Terminal, command_for


class InPython(Advice):
    """What to do next with the run that `charlm.train` returns."""

    def resume(self, path: Path) -> str:
        return f"charlm.train(resume={str(path)!r})"

    def use(self, path: Path, plan: Plan) -> str:
        command = command_for(plan)
        return f"next: run.{command}(…)" if hasattr(Run, command) else super().use(path, plan)

    def note(self, text: str) -> str:
        return in_keywords(text)


@in_python
def train(
    text: Any = None,
    *,
    source: Any = None,
    target: Any = None,
    arch: str | None = None,
    objective: str | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    init_from: str | Path | Run | None = None,
    resume: str | Path | Run | None = None,
    previous: bool = False,
    stop_after: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """See `charlm.train`."""
    with handle_signals(quiet=quiet, ends=[signal.SIGINT]) as signals:
        events = job.begin(
            train,
            names_of(text),
            plain(settings),
            source=names_of(source),
            target=names_of(target),
            arch=arch,
            objective=objective,
            out=as_path(out),
            preset=preset,
            config=as_path(config),
            init_from=None if init_from is None else name_of(init_from),
            again=None if resume is None else name_of(resume),
            previous=previous,
            stop_after=stop_after,
            cache_dir=as_path(cache_dir),
            control=signals.control,
        )
        path = shown(until_interrupted(events, signals), quiet=quiet)
    info = folder.info(path)
    opening = Opening(weights="best" if info.best else "last", device=info.config["train"]["device"])
    return Run.load(path, opening)


def shown(events: Iterator[Event], *, quiet: bool) -> Path:
    """Train to the end, and show it in the terminal or the notebook. Returns the folder of the run."""
    advice, path = InPython(), Path()
    if quiet:
        view = Silent()
    elif console.in_notebook():
        view = notebook.Notebook(advice)
    else:
        view = Terminal(advice) if console.out.is_terminal else Lines(advice)
    try:
        for event in events:
            view.show(event)
            if isinstance(event, (Started, Stopped, Ended)):
                path = event.path
    finally:
        view.close()
    return path


def as_path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as their fields hold them: a path as text, and a number of steps (`eval_every=500`), too."""
    texts = {field.name for field in fields_of(TrainSettings) if field.type is str}
    return {
        name: str(value) if isinstance(value, Path) or (name in texts and type(value) is int) else value
        for name, value in settings.items()
        if value is not None
    }
