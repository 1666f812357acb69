"""Weights and training state as safetensors, always saved from the CPU, so that a run from a GPU opens anywhere.

A file carries a hash of its content. A tensor is read only if its name, type and shape are those expected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from charlm.errors import RunError
from charlm.files import replacing
from charlm.model import State, map_state
from charlm.runs.folder import plain_file
from charlm.timer import Clock
from charlm.training.loop import Trainer
from charlm.training.sharding import numbered
from charlm.training.together import all_carried, all_values, share

Tensors = dict[str, Tensor]
Shape = tuple[int, ...]
DTYPES = ("F32", "F16", "BF16", "I64")
Fits = Callable[[str, Shape], bool]  # whether the file may have a tensor of this name and shape


def save_tensors(path: Path, tensors: Tensors, metadata: dict[str, Any], *, keep: Path | None = None) -> None:
    """Write tensors and JSON metadata, replacing the file only once the new one is whole; the old one becomes `keep`.

    Raises `RunError` if they cannot be written.
    """
    saved = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps(metadata)
    with replacing(path, keep=keep) as temporary:
        try:
            save_file(saved, temporary, {"charlm": text, "sha256": digest(saved, text)})
        except SafetensorError as error:
            raise OSError(str(error)) from None  # its only cause: the disk
        temporary.chmod(0o644)  # safetensors makes it private, but a run may be shared


def load_tensors(path: Path, fits: Fits) -> tuple[Tensors, dict[str, Any]]:
    """(tensors, metadata) of a file. Raises `RunError` if it is missing, damaged, or has a tensor that does not fit."""
    try:
        with safe_open(plain_file(path), "pt") as file:
            names = list(file.keys())
            for name in names:
                tensor = file.get_slice(name)
                shape, dtype = tuple(tensor.get_shape()), tensor.get_dtype()
                if dtype not in DTYPES or not fits(name, shape):
                    raise RunError(f"{path} does not fit its config.json: it has no {name} of shape {shape}, {dtype}")
            tensors = {name: file.get_tensor(name).clone() for name in names}
            header = file.metadata() or {}
            text = header.get("charlm", "")
            if header.get("sha256") != digest(tensors, text):
                raise RunError(f"{path} is damaged: its checksum is not that of what it holds")
            return tensors, dict(json.loads(text))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from None


def digest(tensors: Tensors, text: str) -> str:
    """SHA-256 of the names, types, shapes and values of tensors, and of a text, such as their metadata."""
    result = hashlib.sha256(text.encode())
    for name, t in sorted(tensors.items()):
        result.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        result.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def save_weights(path: Path, model: nn.Module, metadata: dict[str, Any]) -> None:
    save_tensors(path, dict(model.named_parameters()), metadata)


def shapes(model: nn.Module) -> dict[str, Shape]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@torch.no_grad()
def set_weights(model: nn.Module, tensors: Tensors, path: Path) -> None:
    """Copy tensors of the right shapes, read from `path`, into a model. Raises `RunError` if one is missing."""
    refuse_missing(model, tensors, path)
    for name, p in model.named_parameters():
        p.copy_(tensors[name])


def refuse_missing(model: nn.Module, tensors: Tensors, path: Path) -> None:
    """Raise `RunError` if tensors that were read from `path` lack one of a model's."""
    for name, _ in model.named_parameters():
        if name not in tensors:
            raise RunError(f"{path} does not fit its config.json: {name} is missing")


def read_weights(path: Path, model: nn.Module) -> tuple[Tensors, dict[str, Any]]:
    """(weights, metadata) of a file of `save_weights`. Raises `RunError` if it is missing, damaged or does not fit."""
    expected = shapes(model)
    return load_tensors(path, lambda name, shape: expected.get(name) == shape)


def save_training(path: Path, trainer: Trainer, notes: dict[str, Any]) -> None:
    """Save all that `load_training` needs to continue exactly, and `notes` of the caller's.

    A file that `path` names already becomes `previous.safetensors`. Raises `RunError` if the disk cannot be written.
    """
    position = trainer.position
    tensors = flatten("carried", all_carried(trainer)) | all_values(trainer)
    numbers = {
        "step": position.step,
        "tokens": position.tokens,
        "seconds": position.clock.seconds,
        "lr_scale": position.lr_scale,
        "skipped": int(trainer.skipped),
    }
    metadata = {"position": numbers, "notes": notes}
    save_tensors(path, tensors, metadata, keep=path.with_name("previous.safetensors"))


def load_training(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Put a trainer into the saved state; returns the notes. Raises `RunError` if the file is not of this run."""
    expected = {
        f"{part}/{name}": shape for part in ("model", "average") for name, shape in shapes(trainer.model).items()
    }
    carried = trainer.position.carried
    rows = trainer.batches.batch_size
    expected |= {name: (rows, *t.shape[1:]) for name, t in flatten("carried", carried).items()}
    sizes = [[p.shape for p in numbered(optimizer)] for optimizer in trainer.optimizers]

    def fits(name: str, shape: Shape) -> bool:
        if name.startswith("optimizer/"):
            _, number, p, _ = name.split("/")
            return shape in ((), sizes[int(number)][int(p)])
        return expected.get(name) == shape

    try:
        tensors, metadata = load_tensors(path, fits)
        for part in ("model",) if trainer.average is None else ("model", "average"):
            refuse_missing(trainer.model, under(part, tensors), path)
        position, numbers = trainer.position, metadata["position"]
        position.step, position.tokens = int(numbers["step"]), int(numbers["tokens"])
        position.clock = Clock(float(numbers["seconds"]))
        position.lr_scale = float(numbers["lr_scale"])
        trainer.skipped.fill_(int(numbers["skipped"]))
        rows = unflatten("carried", tensors, carried)
        share(trainer, {name: t for name, t in tensors.items() if not name.startswith("carried/")}, rows)
        return dict(metadata["notes"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise RunError(f"{path} holds no training of this run: {error!r}") from None


def under(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors named `prefix/...`, without that prefix."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


def flatten(name: str, state: State) -> Tensors:
    """A state, a tree of tuples, as named tensors: name/0, name/1/0 and so on."""
    if isinstance(state, tuple):
        return {key: t for i, part in enumerate(state) for key, t in flatten(f"{name}/{i}", part).items()}
    return {name: state}


def unflatten(name: str, tensors: Tensors, like: State) -> State:
    """The inverse of `flatten`, for a state with the structure of `like`."""
    parts = iter([tensors[key] for key in flatten(name, like)])
    return map_state(lambda _: next(parts), like)
