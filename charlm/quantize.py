"""Linear layers with 8-bit weights: a large model writes one row as fast as its weights can be read, and these are a
quarter of the size.

Each output's weights are whole numbers from -127 to 127 times a scale of its own (Jacob et al. 2018, arXiv:1712.05877,
section 2, without offsets); what goes in and comes out stays a floating-point number, in bf16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import SettingsError
from charlm.model import Head, Network, parameter_count

VECTOR = 16  # weights that a processor takes at once: rows of other widths are filled up with zeros


class Int8Linear(nn.Module):
    """What a linear layer computes, with its weights rounded."""

    weight: Tensor  # (O, W) int8, W the next multiple of VECTOR after I
    scale: Tensor  # (O,) bf16

    @torch.no_grad()
    def __init__(self, exact: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = exact.in_features, exact.out_features, exact.bias
        weight = exact.output_weight if isinstance(exact, Head) else exact.weight  # (O, I)
        scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
        self.register_buffer("scale", scale)
        rounded = (weight / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.register_buffer("weight", F.pad(rounded, (0, -exact.in_features % VECTOR)))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., I) -> (..., O)"""
        y = product(x.reshape(-1, self.in_features), self.weight, self.scale).reshape(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (B, I) times the transpose of weight (O, W), each output times its scale (O,) -> (B, O).

    PyTorch's function reads whole vectors, past the end of rows that are no multiple of them.
    """
    filled = F.pad(x.bfloat16(), (0, weight.size(1) - x.size(1))) if x.size(1) < weight.size(1) else x.bfloat16()
    return torch._weight_int8pack_mm(filled.contiguous(), weight, scale).to(x.dtype)


def quantize(model: Network) -> None:
    """Round every linear layer of `model`, in place, for good.

    Raises `SettingsError` if it is not on a CPU, or has most of its weights elsewhere, where nothing would be gained.
    """
    if any(p.device.type != "cpu" for p in model.parameters()):
        raise SettingsError(
            "--quantize int8 is for writing on a CPU; add --device cpu or leave it out", field="quantize"
        )
    linear = {name: module for name, module in model.named_modules() if type(module) in (nn.Linear, Head)}
    if 2 * sum(module.weight.numel() for module in linear.values()) < parameter_count(model):
        raise SettingsError(
            "--quantize int8 rounds linear layers, and most weights of this architecture are in others; leave it out",
            field="quantize",
        )
    for name, module in linear.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, Int8Linear(module))
