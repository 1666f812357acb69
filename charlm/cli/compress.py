"""`charlm compress` and `charlm decompress`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli import console
from charlm.cli.opened import OPENING, opened
from charlm.cli.options import RUN, Json, with_settings
from charlm.cli.pictures import present
from charlm.config import flag
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening

ENDING = ".charlm"
ALIKE = {"device", "quantize"}  # what both ways must have in common and no checksum of the weights would tell


@with_settings(OPENING, without=ALIKE)
def compress(
    words: Annotated[
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
    if len(words) > 2:
        raise SettingsError(f"{len(words)} names were given; charlm compress [RUN] FILE takes a run and a file")
    run, source = words[0] if len(words) == 2 else "last", Path(words[-1])
    target = free(out, source.with_name(source.name + ENDING))
    path = folder.find(run, kind="text")
    from charlm.inside import compress as inside

    with opened(run, path, Opening(**given, device="cpu")) as writer:
        began = time.monotonic()
        made = console.watch(inside.compress(writer, source, target, name=path.resolve().name))
    seconds = time.monotonic() - began
    with console.err.status("and xz -9e"):
        xz = inside.xz(source)
    shown = console.table("", ">bytes", ">bits per byte")
    sizes = {"the file": made.bytes, "xz -9e": xz, "charlm": made.compressed, "the model's ideal": made.ideal / 8}
    for name, size in sizes.items():
        shown.add_row(name, f"{size:,.0f}", f"{8 * size / made.bytes:.4f}" if made.bytes else "")
    value = {"run": str(path), "file": str(target), **made._asdict(), "xz": xz, "seconds": seconds}
    present(shown, value, json=json)
    if not json:
        print(
            f"\n{made.tokens:,} tokens in {console.duration(seconds)}; the way back takes as long, with the same run:"
        )
        print(" ".join(["charlm decompress", f"{target} {path}", *(f"{flag(k)} {v}" for k, v in given.items())]))


@with_settings(OPENING, without=ALIKE)
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
    target = free(out, file.with_suffix(""))
    from charlm.inside import compress as inside

    if run is None:
        name = Path(inside.read(file).name).name  # a name, not a way out of runs/
        run = name if folder.is_run(folder.ROOT / name) else "last"
    with opened(run, folder.find(run, kind="text"), Opening(**given, device="cpu")) as writer:
        size = console.watch(inside.decompress(writer, file, target))
    print(f"{target}: {size:,} bytes, the same as before")


def free(named: Path | None, usual: Path) -> Path:
    """Where to write: what was named, or the usual place if nothing is there."""
    if named is None and usual.exists():
        raise SettingsError(f"{usual} exists already; move it away, or name another file with --out")
    return named or usual
