"""Where and how to compute. `auto` probes and never asks for what a machine does not have."""

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


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU. Raises `SettingsError` for a device that this torch cannot use."""
    # On Hopper and later cuDNN would take half a second for each new shape of attention; batches of pairs have many.
    torch.backends.cuda.enable_cudnn_sdp(False)
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, ok in usable.items() if ok))
    if not usable.get(name):
        others = ", ".join(kind for kind, ok in usable.items() if ok)
        raise SettingsError(f"--device {name} is not available here; use auto or {others}", field="device")
    return torch.device(name)


def bf16_pays(kind: type[Network], hidden_size: int, device: torch.device) -> bool:
    """Whether bf16 makes a model of this kind and size faster on a device that has it."""
    return kind.bf16_from < math.inf if device.type == "cuda" else hidden_size >= kind.bf16_from


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """In which a model computes in that precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def hindrance(model: Network, precision: str, attempt: Callable[[], Tensor]) -> str:
    """Why the model's device cannot train it in that precision; empty if it can. That is tried on the loss () which
    `attempt` gives for a few tokens: not every processor has every kind of layer in bf16, nor every GPU every function.
    """
    device = next(model.parameters()).device
    model.train()
    try:
        with autocast(device, precision):
            if precision == "bf16" and not torch.is_autocast_enabled(device.type):
                return "PyTorch would compute in fp32"
            loss = attempt()
        torch.autograd.backward(loss)
    except (RuntimeError, TypeError) as error:
        if out_of_memory(error):
            raise
        return str(error).partition("\n")[0].partition(". ")[0]
    finally:
        model.zero_grad()
    return ""


def choose_precision(asked: str, model: Network, attempt: Callable[[], Tensor]) -> str:
    """`auto` is bf16 where that is faster, else fp32. Raises `SettingsError` for what the device cannot compute, which
    is seen as in `hindrance`."""
    device = next(model.parameters()).device
    if asked == "auto":
        fast = bf16_pays(type(model), getattr(model.config, "hidden_size", 0), device) and multiplies_bf16(device)
        if fast and not hindrance(model, "bf16", attempt):
            return "bf16"
        asked = "fp32"
    if (asked, device.type) == ("fp32", "cpu"):  # which has everything
        return asked
    if why := hindrance(model, asked, attempt):
        given, better = ("--precision bf16", "fp32 or auto") if asked == "bf16" else (f"--device {device.type}", "cpu")
        raise SettingsError(f"{given} is not available here for {type(model).__name__} ({why}); use {better}")
    return asked


REPAYS = {"cpu": 20.0, "cuda": 3.0}  # minutes of a budget that repay the wait for torch.compile


def settle(settings: TrainSettings, model: Network, attempt: Callable[[], Tensor]) -> tuple[TrainSettings, str]:
    """The settings with nothing left automatic, and one line that says what was chosen and why.

    Raises `SettingsError` if the model's device cannot train it in the precision that was asked for: see `hindrance`.
    """
    device, notes = next(model.parameters()).device, list[str]()
    precision = choose_precision(settings.precision, model, attempt)
    long = (settings.minutes or 0) >= REPAYS.get(device.type, math.inf)
    wanted = settings.compile == "on" or (settings.compile == "auto" and model.compiles and long)
    compiled = wanted and can_compile(device)
    if wanted and not compiled:
        notes.append("not compiled: torch.compile finds no working compiler here")
    if device.type == "cpu":
        threads = torch.get_num_threads()
        where = f"the CPU, {threads} thread{'s' if threads > 1 else ''}"
    else:
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the Apple GPU"
    line = ", ".join([where, precision, *(["compiled"] if compiled else []), *notes])
    settled: Any = {"device": device.type, "precision": precision, "compile": "on" if compiled else "off"}
    return replace(settings, **settled), line


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 matrix products; without them they are slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and bool(probe())


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works: it wants a C++ compiler or Triton, which a laptop need not have."""
    probe: Callable[[Any], Any] = torch.compile(lambda x: x + 1)
    try:
        probe(torch.zeros(2, device=device))
    except Exception:  # every back end raises its own kind, and any of them means no
        return False
    return True


def refuse_what_cannot_fit(params: int, logits: int, device: torch.device, flags: str) -> None:
    """Raise `SettingsError` if weights, their gradients and averages, and a batch's logits alone exceed the memory.

    `flags` are those that say how large a batch is.
    """
    needed, room = 16 * params + 12 * logits, memory(device)
    if room is not None and needed > room:
        raise SettingsError(
            f"{params:,} parameters and logits need at least {needed / 1e9:.1f} GB to train and {device.type} "
            f"has {room / 1e9:.1f}; try a smaller --hidden-size, {flags}"
        )


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that this process ever held, of the GPU's memory or else of main memory, torch itself included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as status:
        # Linux: unlike the number below, not inherited from whoever started us
        return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(device: torch.device) -> int | None:
    """Bytes of the device's memory; None where there is no way to tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
