"""The noise that makes a draw of a choice, as a function of where it is asked for: there is no generator to keep.

Adding Gumbel noise to logits and taking the largest is drawing from the softmax (Gumbel 1954; Maddison, Tarlow & Minka
2014, arXiv:1411.0030, section 2). The bits are SplitMix64's (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195): a
stream is 64 bits, and every number in it is the mixture of these and of a key. Tensors of them are int64, which wraps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def signed(bits: int) -> int:
    """64 bits as int64 holds them."""
    return (bits + 2**63) % 2**64 - 2**63


STEP = signed(0x9E3779B97F4A7C15)  # between the states of a SplitMix64; odd
ROUNDS = ((30, signed(0xBF58476D1CE4E5B9)), (27, signed(0x94D049BB133111EB)))


def shifted(bits: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def mixed(bits: Tensor) -> Tensor:
    """Each bit changes about half of the others."""
    for by, factor in ROUNDS:
        bits = shifted(bits, by).bitwise_xor_(bits).mul_(factor)
    return shifted(bits, 31).bitwise_xor_(bits)


def branch(streams: Tensor, numbers: Tensor) -> Tensor:
    """Another stream for each of them and each number, to which both shapes are broadcast."""
    return mixed(streams + numbers * STEP)


def streams(seed: int, rows: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """A stream for each row (B,): that of row number i depends on the seed and i alone."""
    return branch(mixed(torch.tensor(seed)), torch.tensor(rows)).to(device)


def gumbel(streams: Tensor, keys: Tensor) -> Tensor:
    """Noise (..., V) for each stream (...) and each key (V,)."""
    share = shifted(mixed(streams[..., None] + keys), 11).float().add_(0.5).mul_(2**-53)  # fine where it is small
    return share.clamp_(max=1 - 2**-24).neg_().log1p_().neg_().log_().neg_()  # never infinite
