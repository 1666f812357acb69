"""`charlm import` and `charlm export`: what other programs read and write."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import RUN, with_settings
from charlm.errors import SettingsError
from charlm.files import in_shell, writing
from charlm.runs import folder
from charlm.text.visible import printable
from charlm.views.console import count, note, watch

FILL = """\
from transformers import pipeline

fill = pipeline("fill-mask", {0}, tokenizer={0})
print(fill("To be, or n[MASK]t to be"))"""
PYTHON = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({0})
model = AutoModelForCausalLM.from_pretrained({0})
prompt = tokenizer("Once upon", return_tensors="pt")
written = model.generate(**prompt, max_new_tokens=20)
print(tokenizer.decode(written[0]))"""


def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="folder with config.json, model.safetensors (or shards) and the tokenizer's files",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="new folder for the run \\[default: one under runs/]", show_default=False)
    ] = None,
) -> None:
    from charlm.pretrained.read import import_model as read  # imports torch

    path = watch(read(source, out))
    info = folder.info(path)
    config, lengths = info.config, info.config["lengths"]
    sizes = f"{count(config['params'])} weights, a window of {lengths['window']:,} tokens"
    print(printable(f"{path}: {config['origin']['model_type']}, {sizes}"))
    for difference in config["origin"]["differences"]:
        note(difference)
    typed = in_shell(path)
    use = 'fill {} "To be, or n[MASK]t to be"' if "masked" in config["objective"] else 'sample {} --prompt "Once upon"'
    print(printable(f"\ncharlm {use.format(typed)}\ncharlm train FILE --init-from {typed}"))


@with_settings(OPENING, without={"device", "quantize"})
def export(
    run: Annotated[str, typer.Argument(help=RUN, show_default=False)],
    target: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="a new folder; of csv a file, - for standard output", show_default=False),
    ],
    format: Annotated[
        Literal["hf", "huggingface", "onnx", "tensorboard", "csv"],
        typer.Option(
            "--format",
            help="hf (or huggingface): what transformers opens; onnx: graphs, and a program that writes by "
            "them; tensorboard, csv: the course of the training",
        ),
    ] = "hf",
    *,
    given: dict[str, Any],
) -> None:
    path = folder.find(run)
    if format in ("csv", "tensorboard") and given:
        raise SettingsError(f"--format {format} is of the training's course, not of weights; leave --weights out")
    with errors_name_run(run, path):
        WRITERS[format](path, target, **given)


def huggingface(run: Path, target: Path, **given: str) -> None:
    from charlm.pretrained.write import export_run  # imports torch

    name = watch(export_run(run, target, **given))
    example = FILL if name == "bert" else PYTHON
    print(f"{target}: {name}\n\n{example.format(repr(str(target)))}")


def onnx(run: Path, target: Path, **given: str) -> None:
    with extra("onnx"):
        from charlm.exporting.onnx_folder import export_onnx  # imports torch

    files = watch(export_onnx(run, target, **given))
    print(f"{target}: {', '.join(files)}")
    if "write.py" in files:
        print(f'\npython {in_shell(target / "write.py")} "Once upon" 200')


def tensorboard(run: Path, target: Path) -> None:
    with extra("tensorboard"):
        from charlm.exporting.events import write_events

    write_events(run, target)
    print(f"{target}: for tensorboard --logdir {in_shell(target.parent)}")


def csv(run: Path, target: Path) -> None:
    from charlm.exporting.curves import lines, write_csv

    if str(target) == "-":
        write_csv(lines(run), sys.stdout)
        return
    with writing(target, error=SettingsError, hint="name another file") as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write_csv(lines(run), text)
        text.detach()
    print(target)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Says how to install what is missing."""
    try:
        yield
    except ImportError:
        raise SettingsError(f'--format {name} needs an extra: pip install -e ".[{name}]"') from None


WRITERS = {"hf": huggingface, "huggingface": huggingface, "onnx": onnx, "tensorboard": tensorboard, "csv": csv}
