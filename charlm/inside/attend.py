"""Where a model with attention looks: over the source it has read, or back over its own text.

The picture of Bahdanau, Cho & Bengio 2014, arXiv:1409.0473, section 5.2.1, and its like for self-attention (Vaswani et
al. 2017, arXiv:1706.03762, appendix).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from charlm import kinds
from charlm.errors import SettingsError
from charlm.inside import numbered
from charlm.text.tokenizers import Tokenizer
from charlm.text.units import Ids
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


def attend(
    writer: Writer, text: str, *, source: str | None = None, layer: int | None = None, head: int | None = None
) -> Attended:
    """Attention weights over `text`, or from `text` over `source`; by default the last layer's, mean over its heads.

    An encoder and decoder that goes on with a text reads, without a source, the first half and writes the second.

    Raises `SettingsError` for a model without attention, a text that is empty or does not fit into the window, and a
    layer or a head that is not there; `VocabularyError` for characters that the run cannot spell.
    """
    if not text or source == "":
        raise SettingsError(
            f"the {'source' if text else 'text'} is empty; there is nothing to look at",
            field="source" if text else "text",
        )
    tokens, read = writer.tokenizer.encode(text), None if source is None else writer.source_tokenizer.encode(source)
    if (kind := kinds.load(writer.kind)).has_source:
        if read is None:
            raise SettingsError(
                f"this run was trained on {kind.noun}; give what it reads with --source TEXT", field="source"
            )
        return aligned(
            writer, np.append(read, writer.source_tokenizer.newline), tokens.tolist(), layer=layer, head=head
        )
    writer.must_go_on()
    return mapped(writer, tokens, read, tokens, layer=layer, head=head)


def aligned(
    writer: Writer,
    source: Ids,
    target: list[int],
    *,
    finished: bool = True,
    layer: int | None = None,
    head: int | None = None,
) -> Attended:
    """The same for a source with its newline, and a target that ends with one if it is `finished`. Raises as that."""
    newline = writer.tokenizer.newline
    written = np.array([*target, *[newline] * finished], np.int64)
    fed = np.array([newline, *written[:-1]], np.int64)
    return mapped(writer, fed, source, written, layer=layer, head=head)


@torch.inference_mode()
def mapped(writer: Writer, fed: Ids, read: Ids | None, named: Ids, *, layer: int | None, head: int | None) -> Attended:
    """The map of what is `fed` (T,) over what is `read` (S,); its rows are called after the last of `named`."""
    weights = writer.model.attention_weights(
        torch.from_numpy(fed).to(writer.device),
        None if read is None else torch.from_numpy(read).to(writer.device),
    )  # (L, H, T, S)
    number = numbered("--layer", len(weights) if layer is None else layer, len(weights))
    heads = weights[number]  # (H, T, S)
    drawn = heads.mean(0) if head is None else heads[numbered("--head", head, len(heads))]  # (T, S)
    rows, columns = drawn.shape
    causal = read is None and rows == len(fed)
    looked_at = spelled(writer.tokenizer, fed) if read is None else spelled(writer.source_tokenizer, read)
    return Attended(
        layer=number + 1,
        head=1 if len(heads) == 1 else head,
        rows=spelled(writer.tokenizer, named[len(named) - rows :]),
        columns=looked_at[:columns],
        weights=[row[: t + 1] if causal else row for t, row in enumerate(drawn.tolist())],
        of_pair=kinds.load(writer.kind).has_source,
    )


def spelled(tokenizer: Tokenizer, ids: Ids) -> list[str]:
    return [tokenizer.decode([id]) for id in ids.tolist()]
