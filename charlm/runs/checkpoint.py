"""Weights and training state as safetensors, always on the CPU, so that a GPU's run opens anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from charlm.errors import RunError
from charlm.model import State
from charlm.runs.folder import replacing
from charlm.training.loop import Trainer

Tensors = dict[str, Tensor]


def save_tensors(path: Path, tensors: Tensors, metadata: dict[str, Any]) -> None:
    """Write tensors and a JSON value, replacing the file only when the new one is whole."""
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with replacing(path) as beside:
        save_file(whole, beside, {"charlm": json.dumps(metadata)})
        beside.chmod(0o644)  # a run may be shared, which safetensors does not expect


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Raises `RunError` if the file is missing or damaged."""
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("charlm", "{}"))
            return {name: file.get_tensor(name).clone() for name in file.keys()}, metadata  # noqa: SIM118  # not a dict
    except FileNotFoundError:
        other = "give --weights last" if (path.parent / "last.safetensors").exists() else "delete it and train anew"
        raise RunError(f"{path.parent} has no {path.name}: training was stopped too early for that; {other}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}") from None


def save_weights(path: Path, model: nn.Module, metadata: dict[str, Any]) -> None:
    save_tensors(path, dict(model.named_parameters()), metadata)


@torch.no_grad()
def set_weights(model: nn.Module, tensors: Tensors, where: Path) -> None:
    """Copy tensors into the model's parameters. Raises `RunError` unless names and shapes fit exactly."""
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    given = {name: tuple(t.shape) for name, t in tensors.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        name = odd[0]
        raise RunError(
            f"{where} does not fit its config.json: {name} is {given.get(name, 'missing')}, "
            f"expected {wanted.get(name, 'nothing of that name')}"
        )
    for name, p in model.named_parameters():
        p.copy_(tensors[name])


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill the model from a file of `save_weights`. Raises `RunError` if it is missing, damaged or does not fit."""
    set_weights(model, load_tensors(path)[0], path)


def save_training(path: Path, trainer: Trainer, notes: dict[str, Any]) -> None:
    """Everything that `load_training` needs to go on as if nothing had happened, and `notes` of the caller's."""
    here = trainer.position
    tensors = flatten("carried", here.carried)
    for part, module in (("model", trainer.model), ("average", trainer.average)):
        if module is not None:
            tensors |= {f"{part}/{name}": p for name, p in module.named_parameters()}
    for number, optimizer in enumerate(trainer.optimizers):
        for p, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{p}/{key}": value for key, value in values.items()}
    position = {"step": here.step, "tokens": here.tokens, "seconds": here.clock()}
    save_tensors(path, tensors, {"position": position, "notes": notes})


def load_training(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Put a freshly built trainer where the saved one stood; returns the notes. Raises `RunError` if they differ."""
    tensors, metadata = load_tensors(path)
    set_weights(trainer.model, under("model", tensors), path)
    if trainer.average is not None:
        set_weights(trainer.average, under("average", tensors), path)
    for number, optimizer in enumerate(trainer.optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in under(f"optimizer/{number}", tensors).items():
            p, key = name.split("/")
            state.setdefault(int(p), {})[key] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    here, position = trainer.position, metadata["position"]
    here.step, here.tokens, here.seconds = position["step"], position["tokens"], position["seconds"]
    carried = under("carried", tensors)
    here.carried = unflatten({name: t.to(trainer.device) for name, t in carried.items()}) if carried else None
    return dict(metadata["notes"])


def under(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors below a prefix, without it; a tensor that is the prefix itself is named ''."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if f"{name}/".startswith(f"{prefix}/")}


def flatten(name: str, state: State) -> Tensors:
    """A state as named tensors: tuple positions become parts of the name."""
    if isinstance(state, tuple):
        return {key: t for i, part in enumerate(state) for key, t in flatten(f"{name}/{i}", part).items()}
    return {} if state is None else {name: state}


def unflatten(tensors: Tensors) -> State:
    """The inverse of `flatten`, from names without its prefix."""
    if list(tensors) == [""]:
        return tensors[""]
    firsts = sorted({int(name.partition("/")[0]) for name in tensors})
    return tuple(unflatten(under(str(first), tensors)) for first in firsts)
