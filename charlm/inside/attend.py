"""Where a model with attention looks: over the source it has read, or back over its own text.

The picture of Bahdanau, Cho & Bengio 2014, arXiv:1409.0473, section 5.2.1, and its like for self-attention (Vaswani et
al. 2017, arXiv:1706.03762, appendix).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from charlm.errors import SettingsError
from charlm.inside import numbered
from charlm.text.tokenizers import Ids, Tokenizer
from charlm.writer import Writer


class Attended(NamedTuple):
    """One map. A row is a place in the text: its token was just read, the next one is being guessed.

    Of pairs a row is named by the token that is being written, and the columns are the source.
    """

    layer: int  # from 1
    head: int | None  # from 1; None is the mean of all
    rows: list[str]  # the T tokens that look
    columns: list[str]  # the S tokens that are looked at
    weights: list[list[float]]  # T rows that sum to 1; in a text of its own, a row ends at its own token
    of_pair: bool = False

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


@torch.inference_mode()
def attend(
    writer: Writer, text: str, *, source: str | None = None, layer: int | None = None, head: int | None = None
) -> Attended:
    """Attention weights over `text`, or from `text` over `source`; by default the last layer's, mean over its heads.

    An encoder and decoder without a source reads the first half of the text and writes the second.

    Raises `SettingsError` for a model without attention, a text that is empty or does not fit into the window, and a
    layer or a head that is not there; `VocabularyError` for characters that the run cannot spell.
    """
    if not text or source == "":
        raise SettingsError(f"the {'source' if text else 'text'} is empty; there is nothing to look at")
    tokens, read = writer.tokenizer.encode(text), None if source is None else writer.source_tokenizer.encode(source)
    fed = tokens
    if writer.pairs:
        if read is None:
            raise SettingsError("this run was trained on pairs; give what it reads with --source TEXT")
        newline = writer.tokenizer.newline
        read, tokens = np.append(read, writer.source_tokenizer.newline), np.append(tokens, newline)
        fed = np.concatenate([[newline], tokens[:-1]])
    weights = writer.model.attention_weights(
        torch.from_numpy(fed).to(writer.device),
        None if read is None else torch.from_numpy(read).to(writer.device),
    )  # (L, H, T, S)
    number = numbered("--layer", len(weights) if layer is None else layer, len(weights))
    heads = weights[number]  # (H, T, S)
    drawn = heads.mean(0) if head is None else heads[numbered("--head", head, len(heads))]  # (T, S)
    rows, columns = drawn.shape
    causal = read is None and rows == len(tokens)
    return Attended(
        layer=number + 1,
        head=1 if len(heads) == 1 else head,
        rows=spelled(writer.tokenizer, tokens[len(tokens) - rows :]),
        columns=spelled(
            writer.tokenizer if read is None else writer.source_tokenizer, (tokens if read is None else read)[:columns]
        ),
        weights=[row[: t + 1] if causal else row for t, row in enumerate(drawn.tolist())],
        of_pair=writer.pairs,
    )


def spelled(tokenizer: Tokenizer, ids: Ids) -> list[str]:
    return [tokenizer.decode([id]) for id in ids.tolist()]
