"""Vectors of texts: what a layer of a network makes of each line, to be used elsewhere.

`mix` is that of Peters et al. 2018, arXiv:1802.05365, section 3.2, as a run has learnt it (`--features`), or else with
equal weights: the mean of all layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm import kinds
from charlm.errors import SettingsError, VocabularyError
from charlm.model import READ, EncoderDecoder, LanguageModel, Network, TokenVectors
from charlm.text.units import Ids
from charlm.writer import Writer, unknown_hint

Pool = Literal["mean", "last", "none"]
Vectors = NDArray[np.float32]

BLOCK = 1 << 15  # tokens of lines that are in memory at once, and one line more
AT_ONCE = 1 << 12  # tokens that a network reads at once


class Line(NamedTuple):
    text: str
    vectors: Vectors  # (D,), or of each of its tokens (T, D)
    pieces: int  # that it was read in, as it is longer than what the run reads at once


@torch.inference_mode()
def features(
    writer: Writer, lines: Iterable[str], *, layer: str = "last", pool: Pool = "mean", unknown: str = "error"
) -> Iterator[Line]:
    """The vectors of a layer for each of the `lines`: `last`, `mix` or its number; 0 is the embedding.

    A line is read by itself, after a newline. Its vector is the `mean` of those of its tokens, or the `last` one; with
    `none` there is one for each token. An empty line has the vector of the newline. What is longer than the run reads
    at once is read in pieces.

    Raises `SettingsError` for a run that does not show this layer, `VocabularyError` for characters that it lacks.
    """
    refuse_pairs(writer)
    layer_vectors(writer.model, torch.tensor([[writer.tokenizer.start]], device=writer.device), layer)
    block, size = list[tuple[str, Ids]](), 0
    for number, line in enumerate(lines, 1):
        try:
            with unknown_hint():
                block.append((line, writer.tokenizer.encode(line, unknown)))
        except VocabularyError as error:
            raise error.at(f"line {number}") from None
        size += 1 + len(block[-1][1])
        if size >= BLOCK:
            yield from block_features(writer, block, layer, pool)
            block, size = [], 0
    yield from block_features(writer, block, layer, pool)


def refuse_pairs(writer: Writer) -> None:
    """Raise `SettingsError` for a run that reads a source before it writes."""
    if kinds.load(writer.kind).has_source:
        raise SettingsError(
            "this run was trained on pairs, and what it makes of a line depends on another; vectors are for runs on "
            "running text: charlm train FILE --arch lstm, transformer or word2vec"
        )


def block_features(writer: Writer, block: list[tuple[str, Ids]], layer: str, pool: Pool) -> Iterator[Line]:
    """Those of some lines, given with their ids, in order. Pieces of one length are read together."""
    room = longest(writer.model) - 1
    pieces, owner = list[Ids](), list[int]()  # and the line that each is of
    for number, (_, ids) in enumerate(block):
        cut = np.split(ids, range(room, len(ids), room))
        pieces += cut
        owner += [number] * len(cut)
    vectors = read(writer, pieces, layer)
    at = np.searchsorted(owner, np.arange(len(block) + 1))
    for (text, _), first, end in zip(block, at[:-1].tolist(), at[1:].tolist(), strict=True):
        yield Line(text, pooled(vectors[first:end], pool), end - first)


def pooled(pieces: list[Vectors], pool: Pool) -> Vectors:
    """Of a line's pieces (1 + T, D), each with the vector of the newline before it."""
    tokens = np.concatenate([piece[1:] for piece in pieces])
    if pool == "none":
        return tokens
    tokens = tokens if len(tokens) else pieces[0]
    vector: Vectors = tokens[-1] if pool == "last" else tokens.mean(0)
    return vector


def read(writer: Writer, pieces: list[Ids], layer: str) -> list[Vectors]:
    """(1 + T, D) for each piece (T,), with a newline before it."""
    vectors: list[Any] = [None] * len(pieces)
    sizes = np.array([len(piece) for piece in pieces], np.int64)
    for size in np.unique(sizes).tolist():
        same = np.flatnonzero(sizes == size)
        rows = max(1, AT_ONCE // (1 + size))
        for start in range(0, len(same), rows):
            numbers = same[start : start + rows].tolist()
            tokens = torch.from_numpy(np.stack([pieces[number] for number in numbers]))
            tokens = torch.nn.functional.pad(tokens, (1, 0), value=writer.tokenizer.start).to(writer.device)
            for number, row in zip(numbers, layer_vectors(writer.model, tokens, layer).float().cpu(), strict=True):
                vectors[number] = row.numpy()
    return vectors


def longest(network: Network) -> int:
    """The most tokens that are read at once."""
    if isinstance(network, EncoderDecoder):
        return network.spec.lengths.target
    return READ if isinstance(network, TokenVectors) or network.window is None else network.window


def layer_vectors(network: Network, tokens: Tensor, layer: str) -> Tensor:
    """(B, T, D) of a layer, or of the mix of all, for tokens (B, T) at the beginning of a text.

    Raises `SettingsError` for a layer that the network does not have or show.
    """
    if layer == "last" and isinstance(network, LanguageModel):  # as fast as it can
        return network.features(tokens, network.start(len(tokens))).hidden
    states = network.hidden_states(tokens)
    vectors = list(states.values())
    if layer == "mix":
        return network.mixed(vectors)
    first = 0 if "embedding" in states else 1
    numbers = {"last": len(vectors) - 1} | {
        str(number): place for place, number in enumerate(range(first, first + len(vectors)))
    }
    if layer not in numbers:
        raise SettingsError(
            f"--layer must be last, mix or a number from {first} to {first + len(vectors) - 1} in this run, "
            f"got {layer!r}",
            field="layer",
        )
    return vectors[numbers[layer]]
