"""Attention weights of a model: cross-attention over its source, or self-attention over its own text.

Shown as in Bahdanau, Cho & Bengio 2014, arXiv:1409.0473, section 5.2.1, and for self-attention as in Vaswani et al.
2017, arXiv:1706.03762, appendix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charlm import kinds
from charlm.errors import SettingsError
from charlm.inside import index_of, refuse_empty
from charlm.model import Encoder
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
    both_ways: bool = False  # a row's token was not read alone: it looks at what stands after it, too

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


class AllHeads(NamedTuple):
    """The weights of every head of every layer; rows and columns as in `Attended`."""

    weights: Tensor  # (L, H, T, S) rows sum to 1
    rows: list[str]  # T tokens, the queries
    columns: list[str]  # S tokens, the keys
    causal: bool  # row t sees the columns up to t alone
    of_pair: bool
    both_ways: bool = False

    def chosen(self, layer: int | None, head: int | None) -> Attended:
        """One layer's, of a head or of all in the mean; numbers are from 1, and None is the last layer."""
        count = len(self.weights)
        index = index_of("--layer", count if layer is None else layer, count)
        heads = self.weights[index]  # (H, T, S)
        weights = heads.mean(0) if head is None else heads[index_of("--head", head, len(heads))]  # (T, S)
        return Attended(
            layer=index + 1,
            head=1 if len(heads) == 1 else head,
            rows=self.rows,
            columns=self.columns,
            weights=[row[: t + 1] if self.causal else row for t, row in enumerate(weights.tolist())],
            of_pair=self.of_pair,
            both_ways=self.both_ways,
        )

    def thumbnails(self, side: int) -> Tensor:
        """(L, H, t, s) with at most `side` rows and columns: where there are more, the highest weight of neighbours."""
        t, s = (min(side, size) for size in self.weights.shape[2:])
        return F.adaptive_max_pool2d(self.weights, (t, s))

    def to_json(self) -> dict[str, Any]:
        names = {"rows": self.rows, "columns": self.columns}
        return {**names, "weights": self.weights.tolist(), "of_pair": self.of_pair, "both_ways": self.both_ways}


def attend(
    writer: Writer, text: str, *, source: str | None = None, layer: int | None = None, head: int | None = None
) -> Attended:
    """Attention weights within `text`, or from `text` over `source`; by default of the last layer, mean over its heads.

    Without a source, an encoder-decoder that was trained on running text encodes the first half of `text` and decodes
    the second. Raises `SettingsError` for a model without attention, a text that is empty or does not fit into the
    window, and a `layer` or `head` (from 1) that does not exist; `VocabularyError` for characters that the vocabulary
    lacks.
    """
    return attend_all(writer, text, source=source).chosen(layer, head)


def attend_all(writer: Writer, text: str, *, source: str | None = None) -> AllHeads:
    """`attend` with every head of every layer. Raises as that does."""
    refuse_empty(text, source)
    read, tokens = source_ids(writer, source), writer.tokenizer.encode(text)
    if read is not None and kinds.load(writer.kind).has_source:
        return across(writer, read, tokens.tolist())
    return mapped(writer, tokens, read, tokens)


def source_ids(writer: Writer, source: str | None) -> Ids | None:
    """What is read before a text: of a run on pairs a source with its newline, which it must have."""
    kind = kinds.load(writer.kind)
    if not kind.has_source:
        kinds.refuse_another(writer.kind, kinds.TEXT)
        writer.refuse_other_commands("fill")
        return None if source is None else writer.source_tokenizer.encode(source)
    if source is None:
        raise SettingsError(
            f"this run was trained on {kind.noun}; give what it reads with --source TEXT", field="source"
        )
    return np.append(writer.source_tokenizer.encode(source), writer.source_tokenizer.newline)


def aligned(writer: Writer, source: Ids, target: list[int], *, finished: bool = True) -> Attended:
    """`attend` for ids: of a source with its newline, and of a target, to which one is added if it is `finished`."""
    return across(writer, source, target, finished=finished).chosen(None, None)


def across(writer: Writer, source: Ids, target: list[int], *, finished: bool = True) -> AllHeads:
    """From a target over its source, as in `aligned`."""
    newline = writer.tokenizer.newline
    written = np.array([*target, *[newline] * finished], np.int64)
    fed = np.array([newline, *written[:-1]], np.int64)
    return mapped(writer, fed, source, written)


@torch.inference_mode()
def mapped(writer: Writer, fed: Ids, read: Ids | None, names: Ids) -> AllHeads:
    """The weights of the tokens `fed` (T,) over the source `read` (S,); rows are named after the last of `names`."""
    weights = writer.model.attention_weights(
        torch.from_numpy(fed).to(writer.device),
        None if read is None else torch.from_numpy(read).to(writer.device),
    )  # (L, H, T, S)
    rows, columns = weights.shape[2:]
    both_ways = isinstance(writer.model, Encoder)
    keys = token_texts(writer.tokenizer, fed) if read is None else token_texts(writer.source_tokenizer, read)
    return AllHeads(
        weights,
        rows=token_texts(writer.tokenizer, names[len(names) - rows :]),
        columns=keys[:columns],
        causal=read is None and rows == len(fed) and not both_ways,
        of_pair=kinds.load(writer.kind).has_source,
        both_ways=both_ways,
    )


def token_texts(tokenizer: Tokenizer, ids: Ids) -> list[str]:
    return [tokenizer.decode([id]) for id in ids.tolist()]
