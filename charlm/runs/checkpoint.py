"""Weights and training state as safetensors, always on the CPU, so that a GPU's run opens anywhere.

A file carries the hash of all that it says. Before a tensor is read its name, type and shape must be those expected.
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
from torch.optim import Optimizer

from charlm.errors import RunError
from charlm.files import replacing
from charlm.model import State, map_state
from charlm.runs.folder import plain_file
from charlm.timer import Clock
from charlm.training.loop import Trainer

Tensors = dict[str, Tensor]
Shape = tuple[int, ...]
KINDS = ("F32", "F16", "BF16", "I64")
Fits = Callable[[str, Shape], bool]  # whether a tensor of this name and shape belongs into the file


def save_tensors(path: Path, tensors: Tensors, metadata: dict[str, Any], *, keep: Path | None = None) -> None:
    """Write tensors and a JSON value, replacing the file only when the new one is whole; the old one becomes `keep`.

    Raises `RunError` if they cannot be written.
    """
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    said = json.dumps(metadata)
    with replacing(path, keep=keep) as beside:
        try:
            save_file(whole, beside, {"charlm": said, "sha256": digest(whole, said)})
        except SafetensorError as error:
            raise OSError(str(error)) from None  # its only cause: the disk
        beside.chmod(0o644)  # a run may be shared, which safetensors does not expect


def load_tensors(path: Path, fits: Fits) -> tuple[Tensors, dict[str, Any]]:
    """Raises `RunError` if the file is missing, damaged, or holds anything that does not fit."""
    try:
        with safe_open(plain_file(path), "pt") as file:
            names = list(file.keys())
            for name in names:
                part = file.get_slice(name)
                shape, kind = tuple(part.get_shape()), part.get_dtype()
                if kind not in KINDS or not fits(name, shape):
                    raise RunError(f"{path} does not fit its config.json: it has no {name} of shape {shape}, {kind}")
            tensors = {name: file.get_tensor(name).clone() for name in names}
            labels = file.metadata() or {}
            said = labels.get("charlm", "")
            if labels.get("sha256") != digest(tensors, said):
                raise RunError(f"{path} is damaged: its checksum is not that of what it holds")
            return tensors, dict(json.loads(said))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from None


def digest(tensors: Tensors, said: str) -> str:
    """Hash of names, types, shapes and values, and of the text that goes with them."""
    result = hashlib.sha256(said.encode())
    for name, t in sorted(tensors.items()):
        result.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        result.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def save_weights(path: Path, model: nn.Module, metadata: dict[str, Any]) -> None:
    save_tensors(path, dict(model.named_parameters()), metadata)


def shapes(model: nn.Module) -> dict[str, Shape]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@torch.no_grad()
def set_weights(model: nn.Module, tensors: Tensors, where: Path) -> None:
    """Copy tensors, known to fit, into the model's parameters. Raises `RunError` if one is missing."""
    for name, p in model.named_parameters():
        if name not in tensors:
            raise RunError(f"{where} does not fit its config.json: {name} is missing")
        p.copy_(tensors[name])


def read_weights(path: Path, model: nn.Module) -> tuple[Tensors, dict[str, Any]]:
    """What `save_weights` wrote. Raises `RunError` if it is missing, damaged or does not fit the model."""
    expected = shapes(model)
    return load_tensors(path, lambda name, shape: expected.get(name) == shape)


def save_training(path: Path, trainer: Trainer, notes: dict[str, Any]) -> None:
    """Everything that `load_training` needs to go on as if nothing had happened, and `notes` of the caller's.

    What `path` held before becomes `previous.safetensors`. Raises `RunError` if it cannot be written.
    """
    here = trainer.position
    tensors = flatten("carried", here.carried)
    for part, module in (("model", trainer.model), ("average", trainer.average)):
        if module is not None:
            tensors |= {f"{part}/{name}": p for name, p in module.named_parameters()}
    for number, optimizer in enumerate(trainer.optimizers):
        for p, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{p}/{key}": value for key, value in values.items()}
    position = {"step": here.step, "tokens": here.tokens, "seconds": here.clock.seconds, "lr_scale": here.lr_scale}
    position["skipped"] = int(trainer.skipped)
    said = {"position": position, "notes": notes}
    save_tensors(path, tensors, said, keep=path.with_name("previous.safetensors"))


def load_training(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Put a trainer where the saved one stood; returns the notes. Raises `RunError` if they differ."""
    expected = {
        f"{part}/{name}": shape for part in ("model", "average") for name, shape in shapes(trainer.model).items()
    }
    with torch.no_grad():
        blank = trainer.blank()
    expected |= {name: tuple(t.shape) for name, t in flatten("carried", blank).items()}
    slots = [[p.shape for group in o.param_groups for p in group["params"]] for o in trainer.optimizers]

    def fits(name: str, shape: Shape) -> bool:
        if name.startswith("optimizer/"):
            _, number, p, _ = name.split("/")
            return shape in ((), slots[int(number)][int(p)])
        return expected.get(name) == shape

    try:
        tensors, metadata = load_tensors(path, fits)
        set_weights(trainer.model, under("model", tensors), path)
        if trainer.average is not None:
            set_weights(trainer.average, under("average", tensors), path)
        for number, optimizer in enumerate(trainer.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in under(f"optimizer/{number}", tensors).items():
                p, key = name.split("/")
                state.setdefault(int(p), {})[key] = value
            load_optimizer(optimizer, state)
        here, position = trainer.position, metadata["position"]
        here.step, here.tokens = int(position["step"]), int(position["tokens"])
        here.clock = Clock(float(position["seconds"]))
        here.lr_scale = float(position["lr_scale"])
        trainer.skipped.fill_(int(position["skipped"]))
        map_state(Tensor.copy_, here.carried, unflatten("carried", tensors, blank))
        return dict(metadata["notes"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise RunError(f"{path} holds no training of this run: {error!r}") from None


@torch.no_grad()
def load_optimizer(optimizer: Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Set what it remembers of each parameter, by number. Where it remembers something its tensors stay where they are,
    as a recorded step wants it; what was not saved is zero, as in the beginning."""
    if not optimizer.state:
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        return
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    for number, p in enumerate(parameters):
        for key, value in optimizer.state[p].items():
            saved = state.get(number, {}).get(key)
            value.zero_() if saved is None else value.copy_(saved)


def under(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors below a prefix, without it."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


def flatten(name: str, state: State) -> Tensors:
    """A state as named tensors: tuple positions become parts of the name."""
    if isinstance(state, tuple):
        return {key: t for i, part in enumerate(state) for key, t in flatten(f"{name}/{i}", part).items()}
    return {name: state}


def unflatten(name: str, tensors: Tensors, like: State) -> State:
    """The inverse of `flatten`, for a state of the same form as `like`."""
    parts = iter([tensors[key] for key in flatten(name, like)])
    return map_state(lambda _: next(parts), like)
