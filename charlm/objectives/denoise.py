"""Read a damaged text, then write the clean one: BART.

Lewis et al. 2020, arXiv:1910.13461, section 2.2, with its five noises. They are composable, and always come in one
order, whatever the order in which they are named: what looks for sentences must see them whole.

    permute  the sentences change places
    infill   spans of some tokens, also of none, become one symbol each
    mask     tokens become a symbol each
    delete   tokens are left out
    rotate   the text begins somewhere in its midst

Each of them changes every text that it can change: one of two sentences, or tokens, that are not all the same.
Where we differ: `infill` inserts at most as many symbols for nothing as other spans make the text shorter, so a damaged
text is never longer than the clean one; sentences are what `sentences` finds, where the paper splits a document.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated, NamedTuple

import torch

from charlm.config import Arg, DataSpec, Lengths, flag
from charlm.errors import SettingsError
from charlm.objectives._restoring import GAP, Damaged, Restoring, drawn
from charlm.score import Measure

Ids = list[int]

ENDS = re.compile(rb"""((?:[.!?]+["')\]]*(?=\s)|\n))\s*""")  # of a sentence, with the blanks that follow


class Noise(NamedTuple):
    """What a noise may know."""

    share: float
    span_length: float
    spec: DataSpec
    rng: torch.Generator

    @property
    def mask(self) -> int:
        return self.spec.vocab_size + 1  # the first symbol stands at the end of what is written

    def below(self, bound: int) -> int:
        return int(torch.randint(bound, (), generator=self.rng))

    def some(self, ids: Ids) -> set[int]:
        """The places of a share of the tokens, one at least; symbols are none."""
        places = [place for place, id in enumerate(ids) if id < self.spec.vocab_size]
        count = max(1, round(self.share * len(places)))
        return {places[n] for n in drawn(count, len(places), self.rng)}


def permute(ids: Ids, noise: Noise) -> Ids:
    assert noise.spec.tokens, "known wherever there is a text"
    cut = sentences(ids, noise.spec.tokens)
    order = torch.randperm(len(cut), generator=noise.rng).tolist()
    changed = [id for n in order for id in cut[n]]
    if changed == ids:  # the order by chance, or equal sentences
        changed = [id for sentence in (*cut[1:], *cut[:1]) for id in sentence]
    assert changed != ids or len({*map(tuple, cut)}) < 2
    return changed


def infill(ids: Ids, noise: Noise) -> Ids:
    budget, lengths = math.ceil(noise.share * len(ids)), list[int]()
    rates = torch.full((len(ids) + 8,), noise.span_length)
    while sum(lengths) < budget:
        lengths += torch.poisson(rates, generator=noise.rng).int().tolist()
    ends = list(accumulate(lengths))
    last = bisect_left(ends, budget)  # the span that uses up the budget, or more than that
    spans = [length for length in lengths[:last] if length] + [budget - (ends[last] - lengths[last])]
    spans += [0] * min(last + 1 - len(spans), budget - len(spans))
    slots: list[int | None] = [None] * (len(ids) - sum(spans) + len(spans))
    places = torch.randperm(len(slots), generator=noise.rng)[: len(spans)].tolist()
    for place, length in zip(places, spans, strict=True):
        slots[place] = length
    changed = infilled(ids, slots, noise.mask)
    assert changed != ids
    assert len(changed) <= len(ids)
    return changed


def infilled(ids: Ids, slots: Sequence[int | None], mask: int) -> Ids:
    """From left to right each slot keeps a token (None), or puts the mask in the place of so many."""
    changed, at = list[int](), 0
    for length in slots:
        changed.append(ids[at] if length is None else mask)
        at += 1 if length is None else length
    assert at == len(ids)
    return changed


def mask(ids: Ids, noise: Noise) -> Ids:
    masked = noise.some(ids) if any(id != noise.mask for id in ids) else set()
    return [noise.mask if place in masked else id for place, id in enumerate(ids)]


def delete(ids: Ids, noise: Noise) -> Ids:
    """One token at least stays."""
    lost = noise.some(ids) if any(id != noise.mask for id in ids) else set()
    return [id for place, id in enumerate(ids) if place not in lost] or ids[:1]


def rotate(ids: Ids, noise: Noise) -> Ids:
    if len(ids) < 2:
        return ids
    first = 1 + noise.below(len(ids) - 1)
    changed = ids[first:] + ids[:first]
    if changed == ids:  # a text that repeats itself
        changed = ids[1:] + ids[:1]
    assert changed != ids or len({*ids}) == 1
    return changed


NOISES: dict[str, Callable[[Ids, Noise], Ids]] = {
    noise.__name__: noise for noise in (permute, infill, mask, delete, rotate)
}
SHARED = {"infill", "mask", "delete"}  # that damage a share of the tokens


def sentences(ids: Ids, texts: Sequence[bytes]) -> list[Ids]:
    """Tokens cut after . ! ? with a blank behind and after newlines; blanks belong to what is before them, but for
    those in one token with what follows."""
    pieces = [texts[id] for id in ids]
    text, starts = b"".join(pieces), [0, *accumulate(map(len, pieces))][:-1]
    cuts = [0]
    for end in ENDS.finditer(text):
        place = bisect_right(starts, end.end()) - 1  # of the token with the first letter that follows
        if end.end() < len(text) and starts[place] >= end.end(1):
            cuts.append(place)
    return [ids[a:b] for a, b in zip(cuts, [*cuts[1:], len(ids)], strict=True)]


@dataclass(frozen=True)
class Denoise(Restoring):
    noise: Annotated[str, Arg(f"damage to be undone, one or several with commas: {', '.join(NOISES)}")] = "infill"
    share: Annotated[float, Arg("share of the tokens that infill, mask, delete damage", min=0.01, max=0.9)] = 0.3
    span_length: Annotated[float, Arg("infill: mean tokens of a span", min=0.5, max=100)] = 3.0

    symbols = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not SHARED & {*self.noises}:
            self.refuse_unused("share", ", ".join(sorted(SHARED)))
        if "infill" not in self.noises:
            self.refuse_unused("span_length", "infill")

    def refuse_unused(self, name: str, noises: str) -> None:
        """Raise `SettingsError` for a setting that these noises do not have, unless it is its default."""
        if getattr(self, name) != getattr(type(self), name):
            raise SettingsError(
                f"{flag(name)} is for --noise {noises}, and does nothing with --noise {self.noise}; leave it out",
                field=name,
            )

    @cached_property
    def noises(self) -> list[str]:
        """In the order in which they are made."""
        named = [name.strip() for name in self.noise.split(",")]
        if not {*named} <= NOISES.keys():
            raise SettingsError(
                f"--noise must be one of {', '.join(NOISES)}, or several with commas, got {self.noise!r}", field="noise"
            )
        return [name for name in NOISES if name in named]

    @property
    def measure(self) -> Measure:
        """Of this damage: other damage is another task."""
        share = f" {self.share:g}" if SHARED & {*self.noises} else ""
        spans = f" x {self.span_length:g}" if "infill" in self.noises else ""
        words = f"bits/byte restored ({'+'.join(self.noises)}{share}{spans})"
        return Measure("bits_per_restored_byte", words, across=False)  # shares and spans are of tokens

    def damage(self, clean: list[int], spec: DataSpec, rng: torch.Generator) -> Damaged:
        source, noise = clean, Noise(self.share, self.span_length, spec, rng)
        for name in self.noises:
            source = NOISES[name](source, noise)
        return Damaged(clean, source, clean)

    def sizes(self, clean: int) -> tuple[int, int]:
        return clean, clean + 1

    def fits(self, tokens: int, gaps: int, lengths: Lengths) -> bool:
        clean = tokens / (1 - self.share) if "delete" in self.noises else tokens
        missing = min(self.span_length, self.share * lengths.training) if "infill" in self.noises else 0
        return clean + gaps * (missing + 1) <= lengths.training

    def source(self, text: list[int], spec: DataSpec) -> list[int]:
        if GAP in text and not {"infill", "mask"} & {*self.noises}:
            raise SettingsError(
                f"this run learnt to undo --noise {self.noise}, in which nothing is masked: charlm restore undoes "
                "it in a text without gaps; to fill them use a run with infill or mask"
            )
        return [spec.vocab_size + 1 if id == GAP else id for id in text]

    @property
    def spans(self) -> bool:
        return "infill" in self.noises

    def written(self, text: list[int], symbols: int, spec: DataSpec) -> tuple[list[int], list[int]]:
        place, end = text.index(GAP), spec.vocab_size
        after = text[place + symbols :]
        after = after[: after.index(GAP)] if GAP in after else [*after, end]
        return [end, *text[:place]], after

    def restored(self, source: list[int], written: list[int], spec: DataSpec) -> list[int]:  # noqa: ARG002
        return [id for id in written if id < spec.vocab_size]
