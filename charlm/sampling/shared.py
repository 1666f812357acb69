"""The same chance for several models: what differs between their texts is then due to the models.

The largest of logits plus Gumbel noise is a draw from the softmax. Two models that see the same noise pick the same
token unless their guesses differ enough: Oberst & Sontag 2019, arXiv:1905.05824, section 3. Here the noise is a
function of the seed, of how many bytes are written, and of the token's bytes: it is the same in every vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from charlm.sampling.filters import Picker
from charlm.sampling.novel import Copies
from charlm.sampling.settings import SampleSettings


def number(what: bytes) -> int:
    """64 bits of a hash."""
    return int.from_bytes(blake2b(what, digest_size=8).digest(), "little")


def gumbel(keys: NDArray[np.uint64], seed: int, place: int) -> NDArray[np.float64]:
    """Noise (V,) for tokens with these keys (V,): SplitMix64's mixture of key and place (Steele et al. 2014,
    doi 10.1145/2660193.2660195), read as a fraction."""
    x = keys ^ np.uint64(number(b"%d %d" % (seed, place)))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    fraction = ((x >> np.uint64(12)).astype(np.float64) + 0.5) / 2**52  # neither 0 nor 1
    return np.asarray(-np.log(-np.log(fraction)))


class SharedPicker(Picker):
    """Picks for one row, as `Picker` does, with noise that every other model gets too."""

    def __init__(
        self,
        settings: SampleSettings,
        seed: int,
        tokens: Sequence[bytes],
        prompt: Tensor | None = None,
        copies: Copies | None = None,
    ) -> None:
        super().__init__(settings, Generator(), prompt, copies)
        self.tokens, self.seed, self.place = tokens, seed, 0
        self.keys = np.array([number(token) for token in tokens], np.uint64)

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (1, V) -> ids (1,)."""
        ids = super().__call__(logits)
        self.place += len(self.tokens[int(ids)])
        return ids

    def gumbel(self, logits: Tensor) -> Tensor:
        return torch.from_numpy(gumbel(self.keys, self.seed, self.place))[None].to(logits)
