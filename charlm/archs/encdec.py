"""The original Transformer, encoder and decoder (Vaswani et al. 2017, arXiv:1706.03762).

Stacks of layers whose sublayers are each LayerNorm(x + Sublayer(x)) (section 3.1), attention in heads (3.2), of the
encoder over the source, of the decoder over what it wrote and over the encoder's output (3.2.3), feed-forward with ReLU
(3.3), one table for both embeddings and the output (3.4), sinusoidal positions (3.5), dropout on sublayers and
embeddings (5.4). With `--copy` (`_copy.py`) the mean of the heads of the last cross-attention says what is copied.

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

from charlm.archs._attention import KV, Attention, watch
from charlm.archs._blocks import Block, BlockConfig, Dropout, Heads, NormPlace, norm, original_block
from charlm.archs._copy import Copy, CopyHead
from charlm.archs._inside import named_layers, stack_parts
from charlm.archs._patterns import PatternConfig
from charlm.archs._positions import positions
from charlm.archs._window import SlidingEncoderDecoder
from charlm.config import Arg, DataSpec
from charlm.inspection import Part
from charlm.model import PAD, Features, Head, Init, init_unigram


class Memory(NamedTuple):
    source: tuple[KV, ...]  # per layer of the decoder, keys and values of the source, (B, H, S, D/H) each
    mask: Tensor  # (B, 1, 1, S) True where the source has a token
    layers: tuple[KV, ...]  # per layer of the decoder, keys and values of what was written
    tokens: Tensor  # (B, P) what the decoder was fed since the source was read
    copies: Tensor | None  # (B, S) the ids that copying writes, with `--copy`


class Passed(NamedTuple):
    """What T tokens leave behind in the decoder."""

    vectors: list[Tensor]  # (B, T, D) the embedded tokens, and what each layer makes of them
    looking: Tensor  # (B, T, D) what the last cross-attention is given
    layers: tuple[KV, ...]


class EncDec(SlidingEncoderDecoder):
    """A stack of blocks reads the source at once; another writes, and each of its layers looks at what was read."""

    recipes = {
        "text": {"lr": 1e-3, "seq_len": 128},
        "text on cuda": {"hidden_size": 384, "dropout": 0.2, "lr": 7e-4},
        "long on cuda": {"dropout": 0.4},
        "pairs": {
            "hidden_size": 256,
            "tokenizer": "bpe",
            "lr": 1e-3,
            "warmup": 0.1,
            "beta2": 0.98,
            "label_smoothing": 0.1,
        },
        "pairs on cuda": {"hidden_size": 384, "lr": 7e-4},
    }
    bf16_from = 128

    @dataclass(frozen=True)
    class Config(PatternConfig):
        layers: Annotated[int, Arg("blocks in encoder and decoder each", min=1, max=256)] = 3
        hidden_size: Annotated[int, Arg("width of the residual stream", min=1, max=65536)] = 128
        heads: Heads = None
        feed_forward: Annotated[
            int | None, Arg("units inside a feed-forward layer [default: 4 times the hidden size]", min=1, max=262144)
        ] = None
        norm_place: NormPlace = "post"
        dropout: Dropout = 0.1
        tied: Annotated[bool, Arg("let the output use the embedding's weights")] = True
        copy: Copy = False
        init: Init = "unigram"

        def __post_init__(self) -> None:
            super().__post_init__()
            _ = self.block  # which checks that the heads divide the hidden size

        @property
        def block(self) -> BlockConfig:
            """The paper's block as a BlockConfig."""
            return original_block(self, "sinusoidal")

    config: Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, c, inner = config.hidden_size, config.block, config.feed_forward
        self.embed = nn.Embedding(spec.input_size, size)
        self.source_embed = nn.Embedding(spec.source_vocab_size, size) if spec.source_vocab_size else None
        longest = max(spec.lengths.source, spec.lengths.target)
        self.positions = positions(c.positions, longest, size, size // c.head_count)
        patterns = config.patterns(config.layers, heads=c.head_count, length=spec.lengths.source, causal=False)
        self.encoder: Any = nn.ModuleList(Block(c, inner=inner, pattern=pattern) for pattern in patterns)
        self.decoder: Any = nn.ModuleList(Block(c, cross=True, inner=inner) for _ in range(config.layers))
        self.encoder_norm, self.decoder_norm = (
            norm(c) if config.norm_place == "pre" else nn.Identity() for _ in range(2)
        )
        self.head = guess = Head(size, spec, bias=config.init == "unigram")
        self.initialise()
        if config.tied:
            guess.tie(self.embed)
        if config.init == "unigram":
            init_unigram(guess, spec)
            # By the paper's embeddings, vectors of unit variance would make wild guesses: the last norm shrinks them.
            last: Any = self.decoder_norm if config.norm_place == "pre" else self.decoder[-1].norm3
            nn.init.constant_(last.weight, 0.3)
        if config.copy:
            self.head = CopyHead(guess, 2 * size, spec)

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

    def embedded(self, tokens: Tensor, embed: nn.Embedding, places: slice) -> Tensor:
        """tokens (B, T) at these places -> (B, T, D)."""
        x = self.positions.add(embed(tokens) * math.sqrt(self.config.hidden_size), places)
        return F.dropout(x, self.config.dropout, self.training)

    def read(self, source: Tensor) -> Memory:
        """Encode `source` (B, S), right-padded with PAD; of what is longer than it reads, the newest part."""
        source = self.newest(source)
        mask = (source != PAD)[:, None, None]  # (B, 1, 1, S)
        x = self.embedded(source.clamp(min=0), self.source_embed or self.embed, slice(source.size(1)))
        for block in self.encoder:
            x = block.feed(block.bidirectional_attention(x, mask))
        x = self.encoder_norm(x)
        seen = tuple(attention.keys_values(x) for attention in self.cross_attentions())
        nothing = seen[0].keys[:, :, :0]
        copies = self.head.copies(source) if isinstance(self.head, CopyHead) else None
        return Memory(seen, mask, (KV(nothing, nothing),) * self.config.layers, source[:, :0], copies)

    def advance(self, tokens: Tensor, state: Memory) -> Features:
        passed = self.through(tokens, state)
        state = state._replace(layers=passed.layers, tokens=torch.cat([state.tokens, tokens], 1))
        return Features(self.for_head(passed.vectors[-1], passed, state), state)

    def through(self, tokens: Tensor, state: Memory) -> Passed:
        """tokens (B, T) through the decoder."""
        size = state.tokens.size(1)
        x = looking = self.embedded(tokens, self.embed, slice(size, size + tokens.size(1)))
        vectors, layers = [x], list[KV]()
        for block, past, source in zip(self.decoder, state.layers, state.source, strict=True):
            looking, kv = block.causal_attention(x, past)
            x = block.feed(block.cross_attention(looking, source, state.mask))
            vectors.append(x)
            layers.append(kv)
        return Passed(vectors, looking, tuple(layers))

    def for_head(self, x: Tensor, passed: Passed, state: Memory) -> Tensor:
        """What the head reads of a layer's vectors (B, T, D)."""
        x = self.decoder_norm(x)
        if isinstance(self.head, CopyHead) and state.copies is not None:
            weights = self.decoder[-1].cross_weights(passed.looking, state.source[-1], state.mask).mean(1)  # (B, T, S)
            x = self.head.wide(x, weights, state.copies, torch.cat([x, passed.vectors[0]], -1))
        return x

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """Of the decoder over the source. Without a source it reads half of the tokens."""
        source, tokens = self.halves(tokens, source)
        return watch(self.cross_attentions(), lambda: self.advance(tokens, self.read(source)))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        """Of the decoder."""
        memory = self.opened(tokens, source)
        passed = self.through(tokens, memory)
        return named_layers([self.for_head(x, passed, memory) for x in passed.vectors], "decoder")

    def parts(self) -> list[Part]:
        return stack_parts("encoder", self.encoder) + stack_parts("decoder", self.decoder)

    def cross_attentions(self) -> list[Attention]:
        """The decoder's cross-attention, layer by layer."""
        return [block.cross for block in self.decoder]
