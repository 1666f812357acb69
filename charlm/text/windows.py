"""Windows over a text's ids, laid out so that every architecture sees the same text in the same order.

In stream order the text is a ring, cut anew at a random place in each epoch into B rows of equal length, give or take a
token; a batch holds the next window of every row. So row r of a batch continues row r of the batch before, which lets
recurrent models carry their state on, while the windows of one epoch are not those of the next. The last windows of an
epoch are filled up with padding, so each token is guessed once per epoch, however long the windows are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CorpusError
from charlm.text.buckets import PADDING


class Windows:
    """Batch number i as a pure function of (ids, sizes, seed, i): a run resumes by counting."""

    def __init__(
        self, ids: NDArray[np.unsignedinteger], *, batch_size: int, seq_len: int, order: str, seed: int
    ) -> None:
        if len(ids) < 3:
            raise CorpusError(
                f"the training text holds {len(ids)} tokens; it needs 3 or more to learn what follows what"
            )
        self.ids, self.order, self.seed = ids, order, seed
        self.seq_len = min(seq_len, len(ids) - 1)
        self.batch_size = min(batch_size, max(1, len(ids) // self.seq_len))
        self.tokens = self.batch_size * self.seq_len  # of a batch
        self.epoch_tokens = len(ids)
        self.per_epoch = -(-len(ids) // self.tokens)  # batches

    def batch(self, number: int) -> tuple[tuple[NDArray[np.int64]], bool]:
        """((windows (B, T + 1),), whether they start anew): what follows batch `number - 1` or what does not."""
        steps = np.arange(self.seq_len + 1)
        if self.order == "random":
            rng = np.random.default_rng((self.seed, number))
            starts = rng.integers(len(self.ids) - self.seq_len, size=self.batch_size)
            return (self.ids[starts[:, None] + steps].astype(np.int64),), True
        epoch, index = divmod(number, self.per_epoch)
        cut = np.random.default_rng((self.seed, epoch)).integers(len(self.ids))
        borders = (
            np.arange(self.batch_size + 1, dtype=np.int64) * len(self.ids) // self.batch_size
        )  # of the rows, after the cut
        places = borders[:-1, None] + index * self.seq_len + steps  # (B, T + 1)
        windows = self.ids[(cut + places) % len(self.ids)].astype(np.int64)
        windows[places > borders[1:, None]] = PADDING
        return (windows,), index == 0
