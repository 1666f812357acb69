"""`charlm serve`."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import RUN, with_settings
from charlm.config import Arg, Settings, take
from charlm.errors import SettingsError, VocabularyError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.console import err, note

if TYPE_CHECKING:
    from charlm.serving.served import Served
    from charlm.writer import Writer


@dataclass(frozen=True)
class Serving(Settings):
    """Where a server listens, and to whom."""

    host: Annotated[str, Arg("address to listen at; 0.0.0.0 = all of this machine")] = "127.0.0.1"
    port: Annotated[int, Arg("port to listen at, 0 = any that is free", min=0, max=65_535)] = 8000
    api_key_file: Annotated[str | None, Arg("file with a key in each line, one of which clients must send")] = None
    cors: Annotated[tuple[str, ...], Arg("origin whose pages may call, such as https://chat.example; * = any")] = ()
    queue: Annotated[int, Arg("requests of a run that may wait; more are refused", min=1, max=100_000)] = 64


@with_settings({"Serving": Serving, **OPENING})
def serve(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help=f"{RUN}; the first is the default model \\[default: last]",
            show_default=False,
        ),
    ] = None,
    *,
    given: dict[str, Any],
) -> None:
    serving, opening = take(Serving, given), take(Opening, given)
    refuse_without_extra("serve")
    keys = read_keys(serving.api_key_file)
    paths = {run: folder.find(run, kind="text", command="") for run in runs or ["last"]}
    from charlm.serving.app import app
    from charlm.serving.served import Served
    from charlm.serving.server import listen
    from charlm.serving.server import serve as answer
    from charlm.serving.worker import Worker

    with listen(serving.host, serving.port) as listening, Worker() as worker:
        models = list[Served]()
        for run, path in paths.items():
            with errors_name_run(run, path), err.status(f"opening {path}"):
                models.append(Served.open(path, name_of(path, paths), opening, worker, waiting=serving.queue))
                models[-1].warm_up()
        announce(serving, listening.getsockname()[1], models, keys)
        answer(app(models, keys=keys, cors=serving.cors, hosts=names_of(serving.host)), listening)


def refuse_without_extra(command: str) -> None:
    """Raise `SettingsError` if what a server needs is not installed."""
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise SettingsError(f"charlm {command} needs two packages more: pip install -e '.[serve]'")


def name_of(path: Path, paths: dict[str, Path]) -> str:
    """The run's own name, or its path where two have the same."""
    alike = [other for other in {*paths.values()} if other.resolve().name == path.resolve().name]
    return path.resolve().name if len(alike) == 1 else path.as_posix()


def read_keys(file: str | None) -> list[str]:
    """The keys in a file, one in each line."""
    if file is None:
        return []
    keys = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not keys:
        raise SettingsError(f"--api-key-file {file} holds no key; write one into each line", field="api_key_file")
    return keys


def announce(serving: Serving, port: int, models: list[Served], keys: list[str]) -> None:
    """Say where the server is, and how to call it."""
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    body = json.dumps({"model": models[0].name, "prompt": prompt_for(models[0].writer), "max_tokens": 100})
    key = ' -H "authorization: Bearer $KEY"' if keys else ""
    print(f"{', '.join(model.name for model in models)} at http://{host}:{port}/v1, until Ctrl-C; try:", flush=True)
    print(f"curl http://{host}:{port}/v1/completions -H 'content-type: application/json'{key} -d '{body}'", flush=True)
    if not (keys or is_loopback(serving.host)):
        note("whoever reaches this address may use it; --api-key-file FILE asks for a key")


def prompt_for(writer: Writer) -> str:
    """A prompt that the run can read."""
    try:
        writer.tokenizer.encode("The")
    except VocabularyError:
        return ""
    return "The"


def names_of(host: str) -> Sequence[str]:
    """By which names a server at this address may be called; none: by any."""
    from charlm.serving.gate import LOCAL

    return tuple(dict.fromkeys([*LOCAL, host.lower()])) if is_loopback(host) else ()


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
