"""Attention weights of a model: cross-attention over its source, or self-attention over its own text.

Shown as in Bahdanau, Cho & Bengio 2014, arXiv:1409.0473, section 5.2.1, and for self-attention as in Vaswani et al.
2017, arXiv:1706.03762, appendix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from charlm import kinds
from charlm.errors import SettingsError
from charlm.inside import index_of
from charlm.text.tokenizers import Tokenizer
from charlm.text.units import Ids
from charlm.writer import Writer


class Attended(NamedTuple):
    """A matrix of attention weights. A row is a position of the text: its token was just read, the next is predicted.

    Of a pair a row is named after the token that is predicted, and the columns are the source.
    """

    layer: int  # from 1
    head: int | None  # from 1; None is the mean of all
    rows: list[str]  # T tokens, the queries
    columns: list[str]  # S tokens, the keys
    weights: list[list[float]]  # T rows that sum to 1; of causal self-attention row t has t + 1 weights
    of_pair: bool = False

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


def attend(
    writer: Writer, text: str, *, source: str | None = None, layer: int | None = None, head: int | None = None
) -> Attended:
    """Attention weights within `text`, or from `text` over `source`; by default of the last layer, mean over its heads.

    Without a source, an encoder-decoder that was trained on running text encodes the first half of `text` and decodes
    the second. Raises `SettingsError` for a model without attention, a text that is empty or does not fit into the
    window, and a `layer` or `head` (from 1) that does not exist; `VocabularyError` for characters that the vocabulary
    lacks.
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
    writer.check_can_continue()
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
    """`attend` for ids: of a source with its newline, and of a target, to which one is added if it is `finished`."""
    newline = writer.tokenizer.newline
    written = np.array([*target, *[newline] * finished], np.int64)
    fed = np.array([newline, *written[:-1]], np.int64)
    return mapped(writer, fed, source, written, layer=layer, head=head)


@torch.inference_mode()
def mapped(writer: Writer, fed: Ids, read: Ids | None, names: Ids, *, layer: int | None, head: int | None) -> Attended:
    """The weights of the tokens `fed` (T,) over the source `read` (S,); rows are named after the last of `names`."""
    weights = writer.model.attention_weights(
        torch.from_numpy(fed).to(writer.device),
        None if read is None else torch.from_numpy(read).to(writer.device),
    )  # (L, H, T, S)
    index = index_of("--layer", len(weights) if layer is None else layer, len(weights))
    heads = weights[index]  # (H, T, S)
    chosen = heads.mean(0) if head is None else heads[index_of("--head", head, len(heads))]  # (T, S)
    rows, columns = chosen.shape
    causal = read is None and rows == len(fed)
    keys = token_texts(writer.tokenizer, fed) if read is None else token_texts(writer.source_tokenizer, read)
    return Attended(
        layer=index + 1,
        head=1 if len(heads) == 1 else head,
        rows=token_texts(writer.tokenizer, names[len(names) - rows :]),
        columns=keys[:columns],
        weights=[row[: t + 1] if causal else row for t, row in enumerate(chosen.tolist())],
        of_pair=kinds.load(writer.kind).has_source,
    )


def token_texts(tokenizer: Tokenizer, ids: Ids) -> list[str]:
    return [tokenizer.decode([id]) for id in ids.tolist()]
