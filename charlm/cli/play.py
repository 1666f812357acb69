"""`charlm play`, and the page of a training that runs."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import RUN, with_settings
from charlm.cli.serve import is_loopback, name_of, names_of, refuse_without_extra
from charlm.config import Arg, Settings, take
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.console import err, note

if TYPE_CHECKING:
    from charlm.events import Event
    from charlm.serving.play import Shown


@dataclass(frozen=True)
class Listening(Settings):
    """Where the page is, and who opens it."""

    host: Annotated[str, Arg("address to listen at; 0.0.0.0 = all of this machine")] = "127.0.0.1"
    port: Annotated[int, Arg("port to listen at, 0 = any that is free", min=0, max=65_535)] = 0
    browser: Annotated[bool, Arg("open the page")] = True


@with_settings({"Listening": Listening, **OPENING})
def play(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help=f"{RUN}; the first is shown first \\[default: last]", show_default=False
        ),
    ] = None,
    *,
    given: dict[str, Any],
) -> None:
    listening, opening = take(Listening, given), take(Opening, given)
    refuse_without_extra("play")
    paths = {run: folder.find(run) for run in runs or ["last"]}
    from charlm.serving.app import app
    from charlm.serving.play import Shown, routes
    from charlm.serving.server import listen, serve
    from charlm.serving.worker import Worker

    with listen(listening.host, listening.port) as socket, Worker() as worker:
        shown = list[Shown]()
        for run, path in paths.items():
            with errors_name_run(run, path), err.status(f"opening {path}"):
                shown.append(Shown.open(name_of(path, paths), path, opening, worker))
                if shown[-1].served:
                    shown[-1].served.warm_up()
        address = announce(listening, socket.getsockname()[1], shown)
        if listening.browser:
            browse(address)
        models, names = [one.served for one in shown if one.served], names_of(listening.host)
        serve(app(models, hosts=names, routes=routes(shown)), socket)


def announce(listening: Listening, port: int, shown: list[Shown]) -> str:
    """Say where the page is: its address."""
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    address = f"http://{host}:{port}/"
    print(f"{', '.join(one.name for one in shown)} at {address}, until Ctrl-C", flush=True)
    if not is_loopback(listening.host):
        note("whoever reaches this address may use the page")
    return address


def with_page(events: Iterator[Event]) -> Iterator[Event]:
    """The same events of a training, whose curve a page shows from its beginning to the end of this process.

    The page reads the files of the run alone, in a thread: it opens no model, which would draw random numbers.
    """
    from charlm.events import Note, Started

    for event in events:
        yield event
        if isinstance(event, Started):
            yield Note(f"the curve is drawn at {open_page(event.path)}")


def open_page(path: Path) -> str:
    """Serve the curve of a run from a thread, and open the page: its address."""
    from charlm.serving.app import app
    from charlm.serving.play import Shown, routes
    from charlm.serving.server import listen, serve
    from charlm.serving.worker import Worker

    socket, page = listen(Listening.host, 0), app([], routes=routes([Shown(path.name, path, Worker())]))
    threading.Thread(target=serve, args=(page, socket), daemon=True).start()
    address = f"http://{Listening.host}:{socket.getsockname()[1]}/"
    browse(address)
    return address


def browse(address: str) -> None:
    """Open the page, unless that would be in a terminal."""
    if sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys():
        webbrowser.open(address)
