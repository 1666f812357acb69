"""The original Transformer, encoder and decoder (Vaswani et al. 2017, arXiv:1706.03762).

Stacks of layers whose sublayers are each LayerNorm(x + Sublayer(x)) (section 3.1), attention in heads (3.2), of the
encoder over the source, of the decoder over what it wrote and over the encoder's output (3.2.3), feed-forward with ReLU
(3.3), one table for both embeddings and the output (3.4), sinusoidal positions (3.5), dropout on sublayers and
embeddings (5.4).

Where we differ: dropout on attention weights too, as in the authors' own code; `--norm-place pre` puts the norm before
each sublayer and one after each stack (Xiong et al. 2020, arXiv:2002.04745, section 3); a source in a vocabulary of its
own has a table of its own.

On plain text the model continues what it has read: half a window goes to the encoder, the decoder writes the other
half, and then what was written becomes the next source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import (
    BlockConfig,
    Dropout,
    FeedForward,
    Heads,
    NormPlace,
    Past,
    Residual,
    SelfAttention,
    norm,
    sinusoids,
    watch,
)
from charlm.archs._window import EncoderDecoder
from charlm.config import Arg, DataSpec, Settings
from charlm.model import PAD, Start, start_at_unigram, tie


class Memory(NamedTuple):
    source: tuple[Past, ...]  # per layer of the decoder, keys and values of the source, (B, H, S, D/H) each
    mask: Tensor  # (B, S) True where the source has a token
    layers: tuple[Past | None, ...]  # per layer of the decoder, keys and values of what was written
    written: Tensor  # (B, P) what the decoder was fed since the source was read


class SourceAttention(nn.Module):
    """Heads that look at all of a source (section 3.2.2): the encoder's at its own, the decoder's at the encoder's."""

    def __init__(self, c: BlockConfig) -> None:
        super().__init__()
        self.heads, self.dropout = c.head_count, c.dropout
        self.query = nn.Linear(c.hidden_size, c.hidden_size)
        self.key_value = nn.Linear(c.hidden_size, 2 * c.hidden_size)
        self.out = nn.Linear(c.hidden_size, c.hidden_size)

    def remember(self, source: Tensor) -> Past:
        """Keys and values (B, H, S, D/H) of a source (B, S, D)."""
        return Past(*self.key_value(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4))

    def ask(self, x: Tensor) -> Tensor:
        """Queries (B, H, T, D/H)."""
        q: Tensor = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return q

    def forward(self, x: Tensor, source: Past, mask: Tensor) -> Tensor:
        """What x (B, T, D) finds where `mask` (B, S) is True: of a source without a token zeros, before `out`."""
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(self.ask(x), *source, mask[:, None, None], dropout)  # (B, H, T, D/H)
        found: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return found

    def weights(self, x: Tensor, source: Past, mask: Tensor) -> Tensor:
        """Attention (B, H, T, S), 0 on padding, which the fused product in `forward` never shows."""
        energy = self.ask(x) @ source.keys.mT / math.sqrt(source.keys.size(-1))
        return energy.masked_fill(~mask[:, None, None], -math.inf).softmax(-1)


class EncoderBlock(Residual):
    def __init__(self, c: BlockConfig, inner: int | None) -> None:
        super().__init__(c)
        self.norm1, self.attention = norm(c), SourceAttention(c)
        self.norm2, self.feed_forward = norm(c), FeedForward(c, inner)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """One layer on x (B, S, D)."""
        y = self.before(x, self.norm1)
        x = self.after(x, self.attention(y, self.attention.remember(y), mask), self.norm1)
        return self.after(x, self.feed_forward(self.before(x, self.norm2)), self.norm2)


class DecoderBlock(Residual):
    def __init__(self, c: BlockConfig, inner: int | None) -> None:
        super().__init__(c)
        self.norm1, self.attention = norm(c), SelfAttention(c)
        self.norm2, self.cross = norm(c), SourceAttention(c)
        self.norm3, self.feed_forward = norm(c), FeedForward(c, inner)

    def forward(
        self, x: Tensor, past: Past | None, here: slice, room: int, source: Past, mask: Tensor
    ) -> tuple[Tensor, Past]:
        """One layer on x (B, T, D); the arguments are those of both kinds of attention."""
        y, past = self.attention(self.before(x, self.norm1), None, past, here, room)
        x = self.after(x, y, self.norm1)
        x = self.after(x, self.cross(self.before(x, self.norm2), source, mask), self.norm2)
        return self.after(x, self.feed_forward(self.before(x, self.norm3)), self.norm3), past


class EncDec(EncoderDecoder):
    """A stack of blocks reads the source at once; another writes, and each of its layers looks at what was read."""

    recipe = {"lr": 1e-3, "seq_len": 128}
    pair_recipe = {
        "hidden_size": 256,
        "tokenizer": "bpe",
        "lr": 1e-3,
        "warmup": 0.1,
        "beta2": 0.98,
        "label_smoothing": 0.1,
    }
    bf16_from = 128

    @dataclass(frozen=True)
    class Config(Settings):
        layers: Annotated[int, Arg("blocks in encoder and decoder each", min=1, max=256)] = 3
        hidden_size: Annotated[int, Arg("width of the residual stream", min=1, max=65536)] = 128
        heads: Heads = None
        feed_forward: Annotated[
            int | None, Arg("units inside a feed-forward layer [default: 4 times the hidden size]", min=1, max=262144)
        ] = None
        norm_place: NormPlace = "post"
        dropout: Dropout = 0.1
        tied: Annotated[bool, Arg("let the output use the embedding's weights")] = True
        start: Start = "unigram"

        def __post_init__(self) -> None:
            super().__post_init__()
            _ = self.block  # which checks that the heads divide the hidden size

        @property
        def block(self) -> BlockConfig:
            """A block of the paper, in the words of those that came after."""
            return BlockConfig(
                hidden_size=self.hidden_size,
                heads=self.heads,
                positions="sinusoidal",
                norm="layer",
                norm_place=self.norm_place,
                activation="relu",
                qk_norm=False,
                bias=True,
                dropout=self.dropout,
            )

    config: Config
    table: Tensor  # (positions, D)

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, c, inner = config.hidden_size, config.block, config.feed_forward
        self.embed = nn.Embedding(spec.vocab_size, size)
        self.source_embed = nn.Embedding(spec.source_vocab_size, size) if spec.source_vocab_size else None
        self.register_buffer("table", sinusoids(spec.seq_len - spec.seq_len // 2, size), persistent=False)
        self.encoder = nn.ModuleList(EncoderBlock(c, inner) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DecoderBlock(c, inner) for _ in range(config.layers))
        self.encoder_norm, self.decoder_norm = (
            norm(c) if config.norm_place == "pre" else nn.Identity() for _ in range(2)
        )
        self.head = nn.Linear(size, spec.vocab_size, bias=config.start == "unigram")
        self.initialise()
        if config.tied:
            tie(self.head, self.embed)
        if config.start == "unigram":
            start_at_unigram(self.head, spec)
            # By the paper's embeddings, vectors of unit variance would make wild guesses: the last norm shrinks them.
            last: Any = self.decoder_norm if config.norm_place == "pre" else self.decoder[-1].norm3
            nn.init.constant_(last.weight, 0.3)

    @torch.no_grad()
    def initialise(self) -> None:
        """Linear layers as in Glorot & Bengio 2010, section 4.2.1; embeddings of unit variance once they are scaled."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.hidden_size**-0.5)

    def embedded(self, tokens: Tensor, embed: nn.Embedding, here: slice) -> Tensor:
        """tokens (B, T) at these places -> (B, T, D)."""
        x = embed(tokens) * math.sqrt(self.config.hidden_size) + self.table[here]
        return F.dropout(x, self.config.dropout, self.training)

    def read(self, source: Tensor) -> Memory:
        """Encode `source` (B, S), right-padded with PAD; of a text longer than half a window, its newest part."""
        source = self.newest(source)
        mask = source != PAD
        x = self.embedded(source.clamp(min=0), self.source_embed or self.embed, slice(source.size(1)))
        for block in self.encoder:
            x = block(x, mask)
        x = self.encoder_norm(x)
        seen = tuple(attention.remember(x) for attention in self.looking_back())
        return Memory(seen, mask, (None,) * self.config.layers, source[:, :0])

    def write(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        size = state.written.size(1)
        here = slice(size, size + tokens.size(1))
        room = min(len(self.table), max(64, 1 << here.stop.bit_length()))  # a cache of a beam is large: it grows
        x, layers = self.embedded(tokens, self.embed, here), []
        for block, past, source in zip(self.decoder, state.layers, state.source, strict=True):
            x, past = block(x, past, here, room, source, state.mask)
            layers.append(past)
        state = state._replace(layers=tuple(layers), written=torch.cat([state.written, tokens], 1))
        return self.decoder_norm(x), state

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """Of the decoder over the source. Without a source it reads half of the tokens."""
        source, tokens = self.halves(tokens, source)
        return watch(self.looking_back(), lambda: self.write(tokens, self.read(source)))

    def looking_back(self) -> list[SourceAttention]:
        """The decoder's attention over the source, layer by layer."""
        return [module for module in self.decoder.modules() if isinstance(module, SourceAttention)]
