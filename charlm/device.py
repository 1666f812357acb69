"""Device, precision and compilation: what `auto` becomes on this machine, and errors for what it does not have."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from charlm.config import TrainSettings
from charlm.errors import SettingsError, out_of_memory
from charlm.model import Network


def choose_device(name: str, *, several: bool = False) -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU. Raises `SettingsError` for a device that this torch cannot use.

    MPS is not for `several` processes.
    """
    # On Hopper and later cuDNN takes half a second for every new shape of attention; batches of pairs have many.
    torch.backends.cuda.enable_cudnn_sdp(False)
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and not several, "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, ok in usable.items() if ok))
    if not usable.get(name):
        others = ", ".join(kind for kind, ok in usable.items() if ok)
        raise SettingsError(f"--device {name} is not available here; use auto or {others}", field="device")
    return torch.device(name)


def device_class(name: str) -> str:
    """What `auto` is on this machine, such as `cuda`; another name as it is, whether or not there is such a device."""
    return choose_device(name).type if name == "auto" else name


def bf16_is_faster(network: Network | type[Network], hidden_size: int, device: torch.device) -> bool:
    """Whether bf16 makes such a network of this size faster on a device that has it."""
    return network.bf16_from < math.inf if device.type == "cuda" else hidden_size >= network.bf16_from


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The context in which a model computes in `precision`, `bf16` or `fp32`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def training_problem(model: Network, precision: str, small_loss: Callable[[], Tensor]) -> str:
    """Why the model's device cannot train it in this precision; empty if it can.

    `small_loss` computes the loss () of a few tokens; one forward and backward pass of it is tried, for not every
    processor has every kind of layer in bf16, nor every GPU every function.
    """
    device = next(model.parameters()).device
    model.train()
    try:
        with autocast(device, precision):
            if precision == "bf16" and not torch.is_autocast_enabled(device.type):
                return "PyTorch would compute in fp32"
            loss = small_loss()
        torch.autograd.backward(loss)
    except (RuntimeError, TypeError) as error:
        if out_of_memory(error):
            raise
        return str(error).partition("\n")[0].partition(". ")[0]
    finally:
        model.zero_grad()
    return ""


def choose_precision(precision: str, model: Network, small_loss: Callable[[], Tensor]) -> str:
    """`bf16` or `fp32`: for `auto` bf16 where that is faster.

    Raises `SettingsError` if the device cannot compute it, which is tried as in `training_problem`.
    """
    device = next(model.parameters()).device
    if precision == "auto":
        hidden_size = getattr(model.config, "hidden_size", 0)
        faster = bf16_is_faster(model, hidden_size, device) and multiplies_bf16(device)
        if faster and not training_problem(model, "bf16", small_loss):
            return "bf16"
        precision = "fp32"
    if (precision, device.type) == ("fp32", "cpu"):  # every CPU can do that
        return precision
    if problem := training_problem(model, precision, small_loss):
        bf16 = precision == "bf16"
        given, better = ("--precision bf16", "fp32 or auto") if bf16 else (f"--device {device.type}", "cpu")
        raise SettingsError(f"{given} is not available here for {type(model).__name__} ({problem}); use {better}")
    return precision


COMPILE_FROM = {"cpu": 20.0, "cuda": 1.0}  # minutes: budgets that repay the wait for torch.compile


def settle(
    settings: TrainSettings,
    model: Network,
    small_loss: Callable[[], Tensor],
    *,
    by_token: bool = False,
    spread: bool = False,
) -> tuple[TrainSettings, str]:
    """Replace every `auto`: (settings, one line that says what was chosen and why).

    A model that is fed `by_token`, one at a time, is not compiled: torch.compile wraps whole sequences. Nor is one that
    is `spread` over several processes. Raises `SettingsError` as `choose_precision` does.
    """
    device, notes = next(model.parameters()).device, list[str]()
    precision = choose_precision(settings.precision, model, small_loss)
    long = (settings.minutes or 0) >= COMPILE_FROM.get(device.type, math.inf)
    wanted = settings.compile == "on" or (settings.compile == "auto" and model.compiles and long)
    compiled = wanted and not by_token and not spread and can_compile(device)
    if wanted and not compiled:
        reason = "scheduled sampling feeds token by token" if by_token else "torch.compile finds no compiler here"
        reason = "its weights are spread over processes" if spread else reason
        notes.append(f"not compiled: {reason}")
    line = ", ".join([described(device), precision, *(["compiled"] if compiled else []), *notes])
    settled: Any = {"device": device.type, "precision": precision, "compile": "on" if compiled else "off"}
    return replace(settings, **settled), line


def described(device: torch.device) -> str:
    """The processor, in words."""
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"the CPU, {threads} thread{'s' if threads > 1 else ''}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the Apple GPU"


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the random generators of the CPU and of this device. `torch.manual_seed` looks for all other kinds of
    devices too, which takes a fifth of a millisecond."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 matrix products; without them bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and bool(probe())


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works: it needs a C++ compiler or Triton, which not every laptop has."""
    probe: Callable[[Any], Any] = torch.compile(lambda x: x + 1)
    try:
        probe(torch.zeros(2, device=device))
    except Exception:  # every back end raises its own kind
        return False
    return True


def refuse_what_cannot_fit(params: int, logits: int, device: torch.device, flags: str, share: float = 1.0) -> None:
    """Raise `SettingsError` if the weights with gradients and optimizer state, and a batch's logits, exceed the memory.

    `params` and `logits` are counts; `flags` are the options that set the size of a batch, for the message. `share` is
    how much of weights, gradients and optimizer state one process holds.
    """
    needed, available = share * 16 * params + 12 * logits, memory(device)
    if available is not None and needed > available:
        raise SettingsError(
            f"{params:,} parameters and logits need at least {needed / 1e9:.1f} GB to train and {device.type} "
            f"has {available / 1e9:.1f}; try a smaller --hidden-size, {flags}"
        )


def peak_memory(device: torch.device) -> int | None:
    """Peak memory of this process in bytes: of the GPU, or else of main memory, with torch itself. None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as status:
        # Linux: unlike ru_maxrss below, not inherited from the parent process
        return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(device: torch.device) -> int | None:
    """Bytes of the device's memory; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if sys.platform == "win32":
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
