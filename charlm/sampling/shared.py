"""Sampling with the same noise for several models, so that only the models make their texts differ.

Two models with the same Gumbel noise pick the same token unless their distributions differ enough: Oberst & Sontag
2019, arXiv:1905.05824, section 3. The noise is a function of the seed, of the number of bytes written so far, and of
the bytes of the token, so it is the same for every vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from charlm.sampling.filters import Picker
from charlm.sampling.noise import branch, gumbel, signed, streams
from charlm.sampling.novel import Copies
from charlm.sampling.settings import SampleSettings


def key(token: bytes) -> int:
    """64 bits of a hash of the token, as an int64."""
    return signed(int.from_bytes(blake2b(token, digest_size=8).digest(), "little"))


class SharedPicker(Picker):
    """A `Picker` for one row, with noise that every other model gets too. `tokens` (V) is the vocabulary."""

    def __init__(
        self,
        settings: SampleSettings,
        seed: int,
        tokens: Sequence[bytes],
        prompt: Tensor | None = None,
        copies: Copies | None = None,
    ) -> None:
        super().__init__(settings, streams(seed, [0]), prompt, copies)
        self.tokens, self.position = tokens, 0  # position: bytes written
        self.keys = torch.tensor([key(token) for token in tokens])

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (1, V) -> ids (1,)."""
        ids = super().__call__(logits)
        self.position += len(self.tokens[int(ids)])
        return ids

    @property
    def on_host(self) -> bool:
        return True  # which knows how many bytes were written

    def gumbel(self, logits: Tensor) -> Tensor:
        return gumbel(branch(self.streams, torch.tensor(self.position)), self.keys).to(logits)
