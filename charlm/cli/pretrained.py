"""`charlm import` and `charlm export`: folders of other libraries."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from charlm.cli.console import count, note, watch
from charlm.cli.opened import OPENING, errors_name_run
from charlm.cli.options import RUN, with_settings
from charlm.runs import folder
from charlm.text.visible import printable

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
    typed = shlex.quote(str(path))
    use = 'fill {} "To be, or n[MASK]t to be"' if "masked" in config["objective"] else 'sample {} --prompt "Once upon"'
    print(printable(f"\ncharlm {use.format(typed)}\ncharlm train FILE --init-from {typed}"))


@with_settings(OPENING, without={"device", "quantize"})
def export(
    run: Annotated[str, typer.Argument(help=RUN, show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="a new folder", show_default=False)],
    format: Annotated[
        Literal["huggingface"], typer.Option("--format", help="whose: that of the library transformers")
    ] = "huggingface",
    *,
    given: dict[str, Any],
) -> None:
    del format  # there is one so far
    path = folder.find(run)
    from charlm.pretrained.write import export_run  # imports torch

    with errors_name_run(run, path):
        name = watch(export_run(path, target, **given))
    example = FILL if name == "bert" else PYTHON
    print(f"{target}: {name}\n\n{example.format(repr(str(target)))}")
