"""From a run to a folder of Hugging Face's library."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from charlm import kinds
from charlm.errors import SettingsError
from charlm.files import new_folder
from charlm.pretrained import described, families
from charlm.pretrained.families._base import Family
from charlm.pretrained.weights import WEIGHTS
from charlm.progress import Progress
from charlm.runs.saved import Saved


def export_run(run: Path, target: Path, weights: str = "best") -> Generator[Progress, None, str]:
    """Write a run as the folder `target`, which must not exist; returns the name of the family that it is of.

    Raises `SettingsError` for a run that no family can hold, with the setting that stands in the way.
    """
    if os.path.lexists(target):
        raise SettingsError(f"{target} exists already; move it away, or name another folder")
    saved = Saved.open(run)
    kinds.refuse_another(saved.plan.kind, kinds.TEXT)
    network = saved.network(weights)
    name, family, config = family_of(saved, network)
    tokenizer, symbols = saved.vocabularies.target, families.load(name).symbols
    named = {symbol: id for id, symbol in enumerate(symbols, tokenizer.vocab_size)}
    files = described.files(tokenizer, network.spec.lengths.window, named)
    yield Progress("writing the folder", 0, 1)
    theirs: dict[str, Tensor] = {}
    for ours, p in network.named_parameters():
        theirs |= family.source(ours).to_theirs(p.detach())
    tensors = {family.full(of_theirs): t.contiguous() for of_theirs, t in theirs.items()}
    with new_folder(target) as beside:
        try:
            save_file(tensors, beside / WEIGHTS, {"format": "pt"})
        except SafetensorError as error:
            raise OSError(str(error)) from None  # its only cause: the disk
        (beside / WEIGHTS).chmod(0o644)
        for file, content in {"config.json": config, **files}.items():
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1) + "\n"
            (beside / file).write_bytes(text.encode("utf-8"))
    return name


def family_of(saved: Saved, network: Any) -> tuple[str, type[Family], dict[str, Any]]:
    """(name, family, its config.json) of the family that has the run's settings.

    Raises `SettingsError` with what is missing for the one that comes closest.
    """
    problems: dict[str, list[str]] = {}
    fitting = [name for name in families.names() if families.load(name).arch == saved.plan.arch]
    if not fitting:
        archs = sorted({families.load(name).arch for name in families.names()})
        raise SettingsError(
            f"{saved.path}: --arch is {saved.plan.arch} and would have to be {' or '.join(archs)}"
            " for --format hf; onnx, csv and tensorboard are others"
        )
    for name in fitting:
        family = families.load(name)
        config, problems[name] = family.config(saved.plan, network)
        if not problems[name]:
            end = described.end_id(saved.vocabularies.target)
            sizes = {
                "vocab_size": network.spec.input_size,
                "bos_token_id": end,
                "eos_token_id": end,
                "pad_token_id": None,
            }
            about = {"model_type": name, "architectures": [family.model], "dtype": "float32"}
            return name, family, {**about, **sizes, **config}
    name = min(problems, key=lambda name: len(problems[name]))
    raise SettingsError(f"{saved.path} is no {families.load(name).model}: {'; '.join(problems[name])}")
