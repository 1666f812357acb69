"""The same chance for several models: what differs between their texts is then due to the models.

Two models that see the same noise pick the same token unless their guesses differ enough: Oberst & Sontag 2019,
arXiv:1905.05824, section 3. Here the noise is a function of the seed, of how many bytes are written, and of the token's
bytes: it is the same in every vocabulary.
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
    """64 bits of a hash."""
    return signed(int.from_bytes(blake2b(token, digest_size=8).digest(), "little"))


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
        super().__init__(settings, streams(seed, [0]), prompt, copies)
        self.tokens, self.place = tokens, 0
        self.keys = torch.tensor([key(token) for token in tokens])

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (1, V) -> ids (1,)."""
        ids = super().__call__(logits)
        self.place += len(self.tokens[int(ids)])
        return ids

    def gumbel(self, logits: Tensor) -> Tensor:
        return gumbel(branch(self.streams, torch.tensor(self.place)), self.keys).to(logits)
