"""Random noise for sampling as a pure function of seed, row, position and token: there is no generator with a state.

The argmax of logits plus Gumbel noise is a sample from their softmax (the Gumbel-max trick: Gumbel 1954; Maddison,
Tarlow & Minka 2014, arXiv:1411.0030, section 2). The bits are those of SplitMix64 (Steele, Lea & Flood 2014,
doi:10.1145/2660193.2660195): a stream is an int64, and a number in it is a hash of the stream and of a key. Tensors of
them are int64, whose arithmetic wraps around.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def signed(bits: int) -> int:
    """An unsigned 64-bit number as the int64 of the same bits."""
    return (bits + 2**63) % 2**64 - 2**63


INCREMENT = signed(0x9E3779B97F4A7C15)  # from one state of SplitMix64 to the next; odd
ROUNDS = ((30, signed(0xBF58476D1CE4E5B9)), (27, signed(0x94D049BB133111EB)))


def shifted(bits: Tensor, by: int) -> Tensor:
    """A logical shift to the right."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def mixed(bits: Tensor) -> Tensor:
    """The hash: every bit of the input changes about half of the bits of the output."""
    for by, factor in ROUNDS:
        bits = shifted(bits, by).bitwise_xor_(bits).mul_(factor)
    return shifted(bits, 31).bitwise_xor_(bits)


def branch(streams: Tensor, numbers: Tensor) -> Tensor:
    """A new stream for every pair of a stream and a number; their shapes are broadcast."""
    return mixed(streams + numbers * INCREMENT)


def streams(seed: int, rows: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """A stream (B,) for each row number: it depends on the seed and that number alone."""
    return branch(mixed(torch.tensor(seed)), torch.tensor(rows)).to(device)


def gumbel(streams: Tensor, keys: Tensor) -> Tensor:
    """Gumbel noise (..., V) for streams (...) and keys (V,)."""
    uniform = shifted(mixed(streams[..., None] + keys), 11).float().add_(0.5).mul_(2**-53)  # in (0, 1)
    return uniform.clamp_(max=1 - 2**-24).neg_().log1p_().neg_().log_().neg_()  # never infinite


def token_noise(streams: Tensor, first: int, tokens: int, vocabulary: int) -> Tensor:
    """Gumbel noise (T, B, V) for so many tokens from number `first` on, which count from 1, of texts with these streams
    (B,)."""
    positions = torch.arange(first, first + tokens, device=streams.device)
    keys = torch.arange(vocabulary, device=streams.device) * INCREMENT
    return gumbel(branch(streams, positions[:, None]), keys)
