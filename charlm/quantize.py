"""Linear layers with 8-bit weights. A large model writes one row as fast as its weights can be read from memory, and
int8 weights are a quarter of the size.

The weights of an output are whole numbers from -127 to 127 times one scale (Jacob et al. 2018, arXiv:1712.05877,
section 2, without offsets). Activations are not quantized: they are computed in bf16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import SettingsError
from charlm.model import Head, Network, parameter_count

VECTOR = 16  # weights that a processor reads at once: rows are padded with zeros to a multiple of it


class Int8Linear(nn.Module):
    """A linear layer with weights rounded to 8 bits."""

    weight: Tensor  # (O, W) int8, W the inputs I rounded up to a multiple of VECTOR
    scale: Tensor  # (O,) bf16

    @torch.no_grad()
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        weight = linear.output_weight if isinstance(linear, Head) else linear.weight  # (O, I)
        scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
        self.register_buffer("scale", scale)
        rounded = (weight / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.register_buffer("weight", F.pad(rounded, (0, -linear.in_features % VECTOR)))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., I) -> (..., O)"""
        y = int8_matmul(x.reshape(-1, self.in_features), self.weight, self.scale).reshape(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def int8_matmul(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (B, I) @ weight (O, W).T * scale (O,) -> (B, O).

    Rows are padded: PyTorch's function reads whole vectors, past the end of rows that are no multiple of `VECTOR`.
    """
    padded = F.pad(x.bfloat16(), (0, weight.size(1) - x.size(1))) if x.size(1) < weight.size(1) else x.bfloat16()
    return torch._weight_int8pack_mm(padded.contiguous(), weight, scale).to(x.dtype)


def quantize(model: Network) -> None:
    """Replace every linear layer of `model` by an `Int8Linear`, in place and for good.

    Raises `SettingsError` if the model is not on a CPU, or has most of its weights in other layers.
    """
    if any(p.device.type != "cpu" for p in model.parameters()):
        raise SettingsError(
            "--quantize int8 is for writing on a CPU; add --device cpu or leave it out", field="quantize"
        )
    layers = {name: module for name, module in model.named_modules() if type(module) in (nn.Linear, Head)}
    if 2 * sum(module.weight.numel() for module in layers.values()) < parameter_count(model):
        raise SettingsError(
            "--quantize int8 rounds linear layers, and most weights of this architecture are in others; leave it out",
            field="quantize",
        )
    for name, module in layers.items():
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, Int8Linear(module))
