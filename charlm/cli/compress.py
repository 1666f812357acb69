"""`charlm compress` and `charlm decompress`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import RUN, Json, with_settings
from charlm.cli.pictures import present
from charlm.config import flag
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views import console

ENDING = ".charlm"
FIXED = {"device", "quantize"}  # must be the same in both directions, and no checksum of the weights shows them


@with_settings(OPENING, without=FIXED)
def compress(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] FILE",
            help=f"{RUN}; file: a fair test is one it was not trained on",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="where to \\[default: FILE.charlm]", show_default=False)] = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    if len(names) > 2:
        raise SettingsError(f"{len(names)} names were given; charlm compress [RUN] FILE takes a run and a file")
    run, source = names[0] if len(names) == 2 else "last", Path(names[-1])
    target = output_path(out, source.with_name(source.name + ENDING))
    path = folder.find(run, kind="text", command="")
    from charlm.inside import compress as inside

    with open_run(run, path, Opening(**given, device="cpu")) as writer:
        began = time.monotonic()
        result = console.watch(inside.compress(writer, source, target, name=path.resolve().name))
    seconds = time.monotonic() - began
    with console.err.status("and xz -9e"):
        xz = inside.xz(source)
    table = console.table("", ">bytes", ">bits per byte")
    sizes = {"the file": result.bytes, "xz -9e": xz, "charlm": result.compressed, "the model's ideal": result.ideal / 8}
    for name, size in sizes.items():
        table.add_row(name, f"{size:,.0f}", f"{8 * size / result.bytes:.4f}" if result.bytes else "")
    about = {"run": str(path), "file": str(target)}
    present(table, lambda: {**about, **result._asdict(), "xz": xz, "seconds": seconds}, json=json)
    if not json:
        print(
            f"\n{result.tokens:,} tokens in {console.duration(seconds)}; the way back takes as long, with the same run:"
        )
        print(" ".join(["charlm decompress", f"{target} {path}", *(f"{flag(k)} {v}" for k, v in given.items())]))


@with_settings(OPENING, without=FIXED)
def decompress(
    file: Annotated[Path, typer.Argument(help="what charlm compress wrote")],
    run: Annotated[
        str | None,
        typer.Argument(help="the run that compressed it \\[default: the one named in the file, if it is under runs/]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="where to \\[default: FILE without .charlm]", show_default=False)
    ] = None,
    *,
    given: dict[str, Any],
) -> None:
    if out is None and file.suffix != ENDING:
        raise SettingsError(f"{file} does not end in {ENDING}; say with --out where its text goes")
    target = output_path(out, file.with_suffix(""))
    from charlm.inside import compress as inside

    if run is None:
        name = Path(inside.read(file).name).name  # a name alone cannot lead out of runs/
        run = name if folder.is_run(folder.ROOT / name) else "last"
    with open_run(run, folder.find(run, kind="text", command=""), Opening(**given, device="cpu")) as writer:
        size = console.watch(inside.decompress(writer, file, target))
    print(f"{target}: {size:,} bytes, the same as before")


def output_path(out: Path | None, default: Path) -> Path:
    """`out`, or else the default. Raises `SettingsError` if the default exists."""
    if out is None and default.exists():
        raise SettingsError(f"{default} exists already; move it away, or name another file with --out")
    return out or default
