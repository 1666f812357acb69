"""Restoring a text: an encoder reads a damaged piece of it, and a decoder writes what that lacks.

The first symbol, V, begins and ends whatever is written, as a newline does a target of pairs. Where we differ from the
papers, whose pieces are all as long as fits: some are shorter, so that a short text is familiar, too.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.config import PAD, DataSpec, Lengths
from charlm.evaluate import rows_at_once
from charlm.model import EncoderDecoder, map_state
from charlm.objectives._base import Arrays, Batch, summed_nats
from charlm.objectives._guess import Guessing
from charlm.progress import Progress
from charlm.score import Score

GAP = PAD  # in a text to be restored: an unknown number of tokens is missing
SHORTER = 1 / 2  # of the pieces in training end early: most texts that are restored are no full pieces
SEED = 0  # of the damage to what is held out: the same at each validation, and in each run


class Damaged(NamedTuple):
    """A piece of a text, as lists of ids."""

    clean: list[int]
    source: list[int]  # what is read
    target: list[int]  # what is to be written, without the symbol at its end


class Restoring(Guessing):
    needs = EncoderDecoder
    guessed = 1
    command = "restore"
    figures = ("exact", "chrf", "cer", "cer_damaged")

    @abstractmethod
    def damage(self, clean: list[int], spec: DataSpec, rng: torch.Generator) -> Damaged:
        """One or more tokens with damage, which is drawn from `rng`."""

    @abstractmethod
    def sizes(self, clean: int) -> tuple[int, int]:
        """The most tokens of a source, and of a target with the symbol at its end, for so many clean ones."""

    @abstractmethod
    def fits(self, tokens: int, gaps: int, lengths: Lengths) -> bool:
        """Whether so many tokens and gaps can be restored at once, with room for what is likely to be missing."""

    @abstractmethod
    def source(self, text: list[int], spec: DataSpec) -> list[int]:
        """What is read of a text to be restored, in which `GAP` stands where something is missing.

        Raises `SettingsError` for gaps, if a network never met any.
        """

    @property
    def spans(self) -> bool:
        """Whether a symbol stands for any number of tokens, and not for one."""
        return True

    @abstractmethod
    def written(self, text: list[int], symbols: int, spec: DataSpec) -> tuple[list[int], list[int]]:
        """(what is written before the tokens of the first gap, and behind them as far as that is known) of a text with
        `GAP` where something is missing, for the first so many times as `symbols` says."""

    @abstractmethod
    def restored(self, source: list[int], written: list[int], spec: DataSpec) -> list[int]:
        """The clean tokens, from what was read and written; symbols are left out."""

    def room(self, lengths: Lengths) -> Lengths:
        source, target = self.sizes(lengths.training)
        return lengths._replace(source=source, target=target)

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:
        """Each window (T + 1) but for its first token, which was the last of the window before."""
        tokens = rows[0][:, 1:]  # (B, T)
        sizes = (tokens != PAD).sum(1)
        early = torch.rand(len(tokens), generator=rng) < SHORTER
        shorter = (torch.rand(len(tokens), generator=rng) * sizes).ceil().long()
        ends = torch.where(early, shorter, sizes).tolist()
        lines = [row[:end] for row, end in zip(tokens.tolist(), ends, strict=True)]
        return self.shown([self.damage(line, spec, rng) if line else None for line in lines], tokens.size(1), spec)

    def shown(self, pieces: Sequence[Damaged | None], width: int, spec: DataSpec) -> Batch:
        """Pieces of at most `width` clean tokens, or of none (None), always in the same shapes."""
        source_size, target_size = self.sizes(width)
        end = spec.vocab_size
        sources = torch.full((len(pieces), source_size), PAD)
        targets = torch.full((len(pieces), target_size + 1), PAD)
        for source, target, piece in zip(sources, targets, pieces, strict=True):
            read, written = ([end], []) if piece is None else (piece.source, [end, *piece.target, end])
            source[: len(read)] = torch.tensor(read)
            target[: len(written)] = torch.tensor(written, dtype=torch.long)
        return Batch(targets[:, :-1].clamp(min=0), targets[:, 1:], sources)

    def held_out(self, ids: NDArray[Any], spec: DataSpec) -> Iterator[list[Damaged]]:
        """All of a text in damaged pieces, some at a time. The damage is a function of the text alone."""
        width, rng = spec.lengths.training, torch.Generator().manual_seed(SEED)
        rows = rows_at_once(width, spec.output_size)
        for start in range(0, len(ids), rows * width):
            some = ids[start : start + rows * width].tolist()
            yield [self.damage(some[at : at + width], spec, rng) for at in range(0, len(some), width)]

    @torch.inference_mode()
    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """Bits per byte of what is to be written, given the damaged text; marks and ends are paid for, too."""
        network.eval()
        spec, width, device = network.spec, network.spec.lengths.training, next(network.parameters()).device
        assert spec.tokens, "known wherever there is a text"
        nats, tokens, restored, done = 0.0, 0, list[bytes](), 0
        for pieces in self.held_out(part.ids, spec):
            batch = Batch(*map_state(lambda t: t.to(device), self.shown(pieces, width, spec)))
            nats += float(summed_nats(network(batch.tokens, source=batch.source).logits, batch.targets))
            tokens += int((batch.targets != PAD).sum())
            restored += [spec.tokens[id] for piece in pieces for id in piece.target if id < spec.vocab_size]
            done += sum(len(piece.clean) for piece in pieces)
            yield Progress("scoring", done, len(part.ids))
        written = b"".join(restored)
        chars = sum(byte & 0xC0 != 0x80 for byte in written)  # of UTF-8, where others go on with a character
        bits, nats_per_token = nats / math.log(2) / max(len(written), 1), nats / max(tokens, 1)
        return Score(bits, nats_per_token, tokens, chars, len(written), sum(self.sizes(width)) - 1, self.measure)


def drawn(count: int, among: int, rng: torch.Generator) -> list[int]:
    """`count` different numbers below `among`, in ascending order."""
    chosen: Tensor = torch.randperm(among, generator=rng)[:count]
    return sorted(chosen.tolist())
