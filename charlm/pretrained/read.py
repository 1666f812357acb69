"""From a folder of Hugging Face's library to a run."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.errors import RunError, SettingsError
from charlm.files import free, in_shell, link, new_folder
from charlm.plan import Plan
from charlm.pretrained import families, tokenizers, weights
from charlm.pretrained.families._base import Family
from charlm.pretrained.foreign import read_json
from charlm.progress import Progress
from charlm.runs import checkpoint, folder
from charlm.runs.record import UNTRAINED, describe_run
from charlm.text.tokenizers import Tokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.work import multiply_adds


def import_model(source: Path, out: Path | None = None) -> Generator[Progress, None, Path]:
    """Make a run of the model in `source`, in the free folder `out` or in a new one under `runs/`; returns its path.

    Raises `RunError` for a folder that is not whole, `SettingsError` for a model that we do not compute. Nothing stays
    behind then.
    """
    if out is not None and not free(out):
        raise RunError(f"{out} exists already; give another --out, a new folder or an empty one")
    if not source.is_dir():
        raise RunError(f"{source} is no folder; give one with config.json, {weights.WEIGHTS} and the like")
    config = read_json(source / "config.json")
    if config.keys() >= {"charlm", "arch"}:
        raise RunError(f"{source} is a run already; to see what it is: charlm info {in_shell(source)}")
    try:
        family = families.load(str(config.get("model_type")))
        tokenizer = tokenizers.read(source, vocab_size(config), family.symbols)
        plan = plan_of(family, config, tokenizer)
    except SettingsError as error:
        raise error.at(str(source / "config.json")) from None
    vocabularies = Vocabularies(tokenizer, tokenizer)
    outline = plan.outline(vocabularies.spec(plan.lengths))
    with weights.opened(source, family) as opened:
        tensors = yield from weights.convert(opened, family, checkpoint.shapes(outline))
    origin = {
        "folder": str(source.resolve()),
        "model_type": config["model_type"],
        "differences": family.differences(config),
    }
    work = multiply_adds(outline)
    said = describe_run(plan, outline, vocabularies, rows=plan.train.batch_size, work=work, origin=origin)
    path = folder.claim(None, source.resolve().name) if out is None else out
    try:
        with new_folder(path) as beside:
            yield Progress("writing the run", 0, 1)
            folder.write_json(beside / "tokenizer.json", vocabularies.to_json())
            checkpoint.save_tensors(beside / "model.safetensors", tensors, {"step": 0, "score": None})
            link(beside / "model.safetensors", beside / "last.safetensors")
            folder.write_json(beside / "training.json", UNTRAINED)
            folder.write_json(beside / "config.json", said)
    finally:
        if out is None and free(path):  # it was claimed, and nothing came
            with suppress(OSError):
                path.rmdir()
    return path


def vocab_size(config: Mapping[str, Any]) -> int:
    size = config.get("vocab_size")
    if type(size) is not int or size < 1:
        raise SettingsError(f"its vocab_size is {size!r}, and has to be the number of tokens")
    return size


def plan_of(family: type[Family], config: Mapping[str, Any], tokenizer: Tokenizer) -> Plan:
    """The settings of the run, which has no budget: nothing was trained."""
    plan = Plan.of(family.settings(config), {"tokenizer": tokenizer.kind})
    data = replace(plan.data, vocab_size=max(tokenizer.vocab_size, plan.data.vocab_size))
    return replace(plan, train=replace(plan.train, minutes=None), data=data)
