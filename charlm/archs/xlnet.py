"""XLNet, which guesses the tokens of a text in any order (Yang et al. 2019, arXiv:1906.08237).

Two streams go through the same blocks (section 2.3). The content stream holds what each token means, and may look at
the token itself. The query stream, one vector for each guess, knows the place alone: it starts from one learned vector,
and what it looks at are vectors of the content stream. Neither sees what comes later in the order of guessing. As an
encoder the network is the content stream, where each token sees all others. Attention is that of Transformer-XL in both
directions (`_relative.py`); norms stand after each sublayer, GELU is the tanh form, layer norms have an epsilon of
1e-12, and the guess shares the embedding's weights, as in the authors' code.

Where we differ: nothing is remembered of the segment before (section 2.4), and two texts in a row have no segments
(section 2.5); as in our `transformer-xl` dropout is not applied to the sinusoids, within feed-forward layers or after
the last layer; a fresh model guesses by token frequency. `--norm-place pre` puts the norm before each sublayer and one
after the stack (Xiong et al. 2020, arXiv:2002.04745, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import KV, watch
from charlm.archs._blocks import BlockConfig, Dropout, Heads, NormPlace, PublishedBlock, norm, original_block
from charlm.archs._inside import named_layers, refuse_longer, refuse_source, stack_parts
from charlm.archs._relative import RelativeAttention, RelativeBlock, both_ways, both_ways_table
from charlm.config import Arg, DataSpec, Settings
from charlm.inspection import Part
from charlm.model import PAD, AnyOrder, Head, Init, init_unigram


class XLNet(AnyOrder):
    """A stack of blocks with relative attention, through which one or two streams go."""

    recipes = {
        "text": {"lr": 2e-3, "dropout": 0.0},
        "text on cuda": {"layers": 6, "hidden_size": 384, "lr": 1e-3, "dropout": 0.1},
    }
    table: Tensor  # (2 W, D) sinusoids of the distances from W down to 1 - W

    @dataclass(frozen=True)
    class Config(Settings):
        layers: Annotated[int, Arg("blocks", min=1, max=256)] = 4
        hidden_size: Annotated[int, Arg("width of the residual stream", min=1, max=65536)] = 128
        heads: Heads = None
        norm_place: NormPlace = "post"
        dropout: Dropout = 0.1
        init: Init = "unigram"

        def __post_init__(self) -> None:
            super().__post_init__()
            _ = self.block  # which checks that the heads divide the hidden size

        @property
        def block(self) -> BlockConfig:
            """The paper's block, but for its attention."""
            return original_block(self, "none", activation="gelu", kind=PublishedBlock)

    config: Config
    head: Head

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, c = config.hidden_size, config.block
        self.register_buffer("table", both_ways_table(spec.lengths.window, size), persistent=False)
        self.embed = nn.Embedding(spec.input_size, size)
        self.blank = nn.Parameter(torch.empty(size))  # what the query stream starts from, wherever it guesses
        self.blocks: Any = nn.ModuleList(TwoStreamBlock(c) for _ in range(config.layers))
        self.norm = norm(c) if config.norm_place == "pre" else nn.Identity()
        self.head = Head(size, spec)
        self.initialise()
        self.head.tie(self.embed)
        if config.init == "unigram":
            init_unigram(self.head, spec)

    @torch.no_grad()
    def initialise(self) -> None:
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif p.dim() > 1 or p is self.blank:
                nn.init.normal_(p, std=0.02)

    def units(self) -> Sequence[nn.Module]:
        return list(self.blocks)

    def encode(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:  # noqa: ARG002
        (content,) = self.through(tokens)[-1]
        return content

    def guess(self, tokens: Tensor, places: Tensor) -> Tensor:
        _, query = self.through(tokens, places)[-1]
        return query

    def through(self, tokens: Tensor, places: Tensor | None = None) -> list[list[Tensor]]:
        """The streams at the start and after each layer, as the head reads them: the content (B, S, D) and, if `places`
        (B, M) are given, the query (B, M, D)."""
        size, longest = tokens.size(1), self.spec.lengths.window
        table = self.table[longest - size : longest + size]  # (2 S, D)
        streams = [self.embed(tokens.clamp(min=0))]
        views = [View.of_all(tokens)]
        if places is not None:
            streams.append(self.blank.expand(*places.shape, -1))
            views = View.in_order(tokens, places)
        layers = [[F.dropout(x, self.config.dropout, self.training) for x in streams]]
        for block in self.blocks:
            layers.append(block(layers[-1], views, table))
        return [[self.norm(x) for x in streams] for streams in layers]

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        self.refuse_unreadable(tokens, source)
        return named_layers([content for (content,) in self.through(tokens)])

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        self.refuse_unreadable(tokens, source)
        attentions = (module for module in self.modules() if isinstance(module, RelativeAttention))
        return watch(attentions, lambda: self.encode(tokens[None]))

    def refuse_unreadable(self, tokens: Tensor, source: Tensor | None) -> None:
        """Raise `SettingsError` for a source, and for a text (..., S) that the window does not hold."""
        refuse_source(self, source)
        refuse_longer(tokens, self.spec.lengths.window)

    def parts(self) -> list[Part]:
        return stack_parts("layer", self.blocks)


class View(NamedTuple):
    """Where the vectors (B, T, D) of a stream stand in a text of S tokens, and which of these they may look at."""

    places: Tensor | None  # (B, T); None: at all places, one after the other
    seen: Tensor  # (B, 1, T, S) True where they may; or (B, 1, 1, S) for all alike

    @classmethod
    def of_all(cls, tokens: Tensor) -> View:
        """Of the tokens (B, S) over each other, and not over PAD."""
        return cls(None, (tokens != PAD)[:, None, None])

    @classmethod
    def in_order(cls, tokens: Tensor, places: Tensor) -> list[View]:
        """Of the content and the query stream for guesses at `places` (B, M). Tokens that are not guessed see each
        other, and all others see them."""
        size, count = tokens.size(1), places.size(1)
        numbers = torch.arange(count, device=tokens.device)
        number = torch.full((len(tokens), size + 1), -1, device=tokens.device)  # of each in the order; -1: not guessed
        number.scatter_(1, places.masked_fill(places == PAD, size), numbers.expand_as(places))
        number = number[:, :-1]
        earlier = number[:, None] < number[:, :, None].clamp(min=0)  # (B, S, S)
        itself = torch.eye(size, dtype=torch.bool, device=tokens.device)
        before = number[:, None] < numbers[:, None]  # (B, M, S)
        real = (tokens != PAD)[:, None, None]
        content, query = ((earlier | itself)[:, None] & real, before[:, None] & real)
        return [cls(None, content), cls(places.clamp(min=0), query)]


class TwoStreamBlock(RelativeBlock):
    """A block of one text, whose streams share all weights: queries of each look at the content's keys and values."""

    def forward(self, streams: Sequence[Tensor], views: Sequence[View], table: Tensor) -> list[Tensor]:  # type: ignore[override]
        """The next layer's streams (B, T, D), the content's first; `table` (2 S, D) holds all distances."""
        kv = self.attention.keys_values(self.normed(streams[0], self.norm1))
        distances = self.attention.distances(table)
        return [self.look(x, view, kv, distances) for x, view in zip(streams, views, strict=True)]

    def look(self, x: Tensor, view: View, kv: KV, distances: Tensor) -> Tensor:
        """A stream x (B, T, D) after the block. Where it sees nothing at all, attention says zero."""
        q = self.attention.queries(self.normed(x, self.norm1))
        places = both_ways(self.attention.by_distance(q, distances), view.places)  # (B, H, T, S)
        places = places.masked_fill(~view.seen, torch.finfo(places.dtype).min)
        y = self.attention(q, kv, places) * view.seen.any(-1).mT
        return self.feed(self.residual(x, y, self.norm1))
