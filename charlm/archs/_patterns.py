"""Attention patterns: which places of a window a query may look at. A pattern is the union of a few rules.

- Child et al. 2019, arXiv:1904.10509 (Sparse Transformer, section 4.2): `strided`, `fixed`. Every head sees the union
  of both sets of keys, the "merged" form of section 4.3. The summary columns of `fixed` are counted from their block's
  end and differ between up to four heads, as in the released code; there are up to four in a row, and not the paper's 8
  to 32, which went with blocks of 128 and more.
- Brown et al. 2020, arXiv:2005.14165 (GPT-3, section 2.1): `dense,window`, layers in turn.
- Beltagy, Peters & Cohan 2020, arXiv:2004.05150 (Longformer, section 3.1): `longformer`, without dilation. The global
  tokens are the first of the window and have no projections of their own. In an encoder (section 7) they see all too.
- Zaheer et al. 2020, arXiv:2007.14062 (BigBird, section 2 and appendix D): `bigbird`, in blocks of half of
  `--pattern-window`; the first is global, and not the last too. One random block is drawn from each of equal parts of
  the candidates, by a hash of layer and block, so it depends on nothing else.

Where attention is causal no rule lets a query see what comes later, so a global token is seen by all and sees only what
is before it. Places are those in the window, so that a text in pieces means the same as at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any

import torch
from torch import Tensor

from charlm.archs._rules import Blocks, Column, Drawn, First, Near, Rule, Summary
from charlm.config import Arg, Settings, fields_of, flag
from charlm.errors import SettingsError


@dataclass(frozen=True)
class Pattern:
    """Where the queries of a layer look. Equal patterns compare equal, in whatever layers they are."""

    rules: tuple[Rule, ...]
    size: int  # of a block of queries, which are computed together
    heads: int
    causal: bool

    def allows(self, head: Any, q: Any, k: Any) -> Tensor:
        """Whether a head looks from place q at place k: tensors of integers that broadcast."""
        seen: Tensor = reduce(or_, (rule.allows(head, q, k) for rule in self.rules))
        return seen & (k <= q) if self.causal else seen

    def mask(self, q: Tensor, k: Tensor) -> Tensor:
        """(H or 1, T, S) True where queries at places q (T,) look at keys at places k (S,)."""
        return self.allows(torch.arange(self.heads, device=q.device)[:, None, None], q[:, None], k)

    @property
    def readers(self) -> int:
        """How many of the first places see all others."""
        return 0 if self.causal else sum(rule.count for rule in self.rules if isinstance(rule, First))

    def candidates(self, queries: Tensor, rules: tuple[Rule, ...], end: int) -> tuple[Tensor, Tensor]:
        """For groups of queries at places (N, G): keys (H or 1, N, K) below `end`, and where (H or 1, N, G, K) these
        may be seen by one of `rules`. Each pair is True once, whatever the number of rules that allow it."""
        first, size = queries[:, 0], queries.size(1)
        head, q = torch.arange(self.heads, device=first.device)[:, None, None, None], queries[..., None]
        keys, masks = [], []
        for number, rule in enumerate(self.rules):
            if rule not in rules:
                continue
            places = rule.keys(first, size, end)
            keys.append(places if places.dim() == 3 else places[None])  # (H or 1, N, K)
            k = keys[-1][:, :, None]
            mask = rule.allows(head, q, k) & (k >= 0) & (k < end)
            mask = mask & (k <= q) if self.causal else mask
            for earlier in self.rules[:number]:
                mask = mask & ~earlier.allows(head, q, k)
            masks.append(mask)
        wide = [max(part.size(0) for part in parts) for parts in (keys, masks)]
        both = [torch.cat([t.expand(n, *t.shape[1:]) for t in p], -1) for n, p in zip(wide, (keys, masks), strict=True)]
        return both[0].clamp(0, end - 1), both[1]


NAMES = {
    "dense": (),
    "window": ("pattern_window",),
    "strided": ("pattern_stride",),
    "fixed": ("pattern_stride",),
    "longformer": ("pattern_window", "global_tokens"),
    "bigbird": ("pattern_window", "random_blocks"),
}
"""Every pattern, with the settings that it uses."""


def pattern(name: str, c: PatternConfig, *, layer: int, heads: int, length: int, causal: bool = True) -> Pattern | None:
    """That of this name for a layer and a window of `length`; None is dense."""
    reach = min(c.pattern_window or max(1, min(128, length // 4)), length)
    stride = min(c.pattern_stride or 2 ** round(math.log2(length) / 2), length)
    first = min(c.global_tokens, length)
    block = max(1, reach // 2)
    rules: dict[str, tuple[tuple[Rule, ...], int]] = {
        "window": ((Near(causal, reach),), block),
        "strided": ((Near(causal, stride), Column(causal, stride)), stride),
        "fixed": ((Blocks(causal, stride), Summary(causal, stride, heads)), stride),
        "longformer": ((Near(causal, reach), First(causal, first)), block),
        "bigbird": (
            (
                Blocks(causal, block, 1),
                First(causal, block),
                Drawn(causal, block, c.random_blocks, layer, -(-length // block)),
            ),
            block,
        ),
    }
    return Pattern(*rules[name], heads, causal) if name != "dense" else None


@dataclass(frozen=True)
class PatternConfig(Settings):
    """The options of patterns, for any architecture whose layers attend."""

    pattern: Annotated[str, Arg(f"where layers look, in turn: a comma list of {', '.join(NAMES)}")] = "dense"
    pattern_window: Annotated[
        int | None,
        Arg(
            "tokens that a query sees back, itself among them [default: a quarter of the window, at most 128]",
            min=1,
            max=1_000_000,
        ),
    ] = None
    pattern_stride: Annotated[
        int | None,
        Arg("stride, or block of fixed [default: about the square root of the window]", min=1, max=1_000_000),
    ] = None
    global_tokens: Annotated[int, Arg("first tokens of the window, which all see", min=1, max=1_000_000)] = 4
    random_blocks: Annotated[int, Arg("random blocks of bigbird that a block sees", min=1, max=64)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.pattern.split(",")
        for name in names:
            if name not in NAMES:
                raise SettingsError(
                    f"--pattern has no {name!r}; give one or several of {', '.join(NAMES)}, with commas between them",
                    field="pattern",
                )
        for field in fields_of(PatternConfig)[1:]:
            users = [name for name, used in NAMES.items() if field.name in used]
            if getattr(self, field.name) != field.default and not set(users) & set(names):
                raise SettingsError(
                    f"{flag(field.name)} is for --pattern {' or '.join(users)}; {self.pattern} does not use it",
                    field=field.name,
                )

    @property
    def derived(self) -> list[str]:
        """Settings that are used, were not given, and so follow from the window's length."""
        used = {name for pattern in self.pattern.split(",") for name in NAMES[pattern]}
        return [name for name in ("pattern_window", "pattern_stride") if name in used and getattr(self, name) is None]

    def patterns(self, layers: int, **sizes: Any) -> list[Pattern | None]:
        """Those of all layers, by turns; the arguments are those of `pattern`."""
        names = self.pattern.split(",")
        return [pattern(names[layer % len(names)], self, layer=layer, **sizes) for layer in range(layers)]
