"""Windows over a text's ids, laid out so that every architecture sees the same text in the same order.

In stream order the text is a ring. Every epoch cuts it at a random position and divides it into B rows of equal length,
give or take a token; a batch is the next window of every row. So row r of a batch continues row r of the batch before:
recurrent models carry their state along (truncated backpropagation through time), and no two epochs have the same
windows. The last windows of an epoch are padded, so each token is a target once per epoch, however long windows are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charlm.config import PAD
from charlm.errors import CorpusError


class Windows:
    """Training batches of a text: batch number i is a pure function of (ids, sizes, order, seed, i).

    So a resumed run needs to know no more than the number of its next batch. Raises `CorpusError` for fewer than 3 ids.
    """

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
        """((windows (B, T + 1),), whether they start anew): else row r continues row r of batch `number - 1`."""
        steps = np.arange(self.seq_len + 1)
        if self.order == "random":
            rng = np.random.default_rng((self.seed, number))
            starts = rng.integers(len(self.ids) - self.seq_len, size=self.batch_size)
            return (self.ids[starts[:, None] + steps].astype(np.int64),), True
        epoch, index = divmod(number, self.per_epoch)
        cut = np.random.default_rng((self.seed, epoch)).integers(len(self.ids))
        rows = np.arange(self.batch_size + 1, dtype=np.int64)
        borders = rows * len(self.ids) // self.batch_size  # (B + 1,) of the rows, counted from the cut
        positions = borders[:-1, None] + index * self.seq_len + steps  # (B, T + 1) counted from the cut
        windows = self.ids[(cut + positions) % len(self.ids)].astype(np.int64)
        windows[positions > borders[1:, None]] = PAD
        return (windows,), index == 0
