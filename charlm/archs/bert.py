"""BERT, a transformer that reads a text from both sides (Devlin et al. 2018, arXiv:1810.04805).

Embeddings of tokens, places and segments are added, normalised and dropped out (section 3.2 and figure 2); blocks with
the norm after each sublayer, GELU in its exact form, and attention in both directions (section 3.1); a guess at a
hidden token goes through one more layer, and shares the embedding's weights; a judgement of the whole, such as whether
a second text follows a first, is made from the vector of the first token. So in the authors' own code, whose layer
norms have an epsilon of 1e-12.

Where we differ: by default positions are rotary and not learned (`--positions learned`), with which it takes thousands
of steps to learn where a neighbour is; and a fresh model guesses by token frequency. `--norm-place pre` puts the norm
before each sublayer and one after the stack (Xiong et al. 2020, arXiv:2002.04745, section 3); patterns of attention
(`_patterns.py`) work both ways. Weights start normal, and not cut off at twice their deviation of 0.02.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import Attention, watch
from charlm.archs._blocks import (
    Block,
    BlockConfig,
    Dropout,
    Heads,
    NormPlace,
    PositionKind,
    PublishedBlock,
    norm,
    original_block,
)
from charlm.archs._inside import named_layers, refuse_longer, refuse_source, stack_parts
from charlm.archs._patterns import PatternConfig
from charlm.archs._positions import positions
from charlm.config import Arg, DataSpec
from charlm.inspection import Part
from charlm.model import PAD, Encoder, Head, Init, init_unigram

SEGMENTS = 2


class Bert(Encoder):
    """A stack of blocks, each place of which looks at all others."""

    objective = "masked"
    recipes = {
        "text": {"lr": 2e-3, "dropout": 0.0},
        "labels": {"lr": 1e-3},
        "text on cuda": {"layers": 6, "hidden_size": 384, "lr": 1e-3, "dropout": 0.1},
    }
    bf16_from = 256

    @dataclass(frozen=True)
    class Config(PatternConfig):
        layers: Annotated[int, Arg("blocks", min=1, max=256)] = 4
        hidden_size: Annotated[int, Arg("width of the residual stream", min=1, max=65536)] = 128
        heads: Heads = None
        positions: PositionKind = "rotary"
        norm_place: NormPlace = "post"
        dropout: Dropout = 0.1
        init: Init = "unigram"

        def __post_init__(self) -> None:
            super().__post_init__()
            _ = self.block  # which checks that the heads divide the hidden size

        @property
        def block(self) -> BlockConfig:
            """The paper's block."""
            return original_block(self, self.positions, activation="erf-gelu", kind=PublishedBlock)

    config: Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, length, c = config.hidden_size, spec.lengths.window, config.block
        self.embed = nn.Embedding(spec.input_size, size)
        self.positions = positions(config.positions, length, size, size // c.head_count)
        self.segments = nn.Embedding(SEGMENTS, size)
        self.embed_norm = norm(c)
        patterns = config.patterns(config.layers, heads=c.head_count, length=length, causal=False)
        self.blocks: Any = nn.ModuleList(Block(c, pattern=pattern) for pattern in patterns)
        self.norm = norm(c) if config.norm_place == "pre" else nn.Identity()
        guess = Head(size, spec)
        self.head = GuessHead(c, guess)
        if spec.answers:
            self.judge = Judge(size, spec.answers)
        self.initialise()
        guess.tie(self.embed)
        if config.init == "unigram":
            init_unigram(guess, spec)

    @torch.no_grad()
    def initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def encode(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        return self.through(tokens, segments)[-1]

    def through(self, tokens: Tensor, segments: Tensor | None = None) -> list[Tensor]:
        """The embedded tokens (B, S, D), and what each layer makes of them, the last as the head reads it."""
        places = slice(tokens.size(1))
        x = self.positions.add(self.embed(tokens.clamp(min=0)), places)
        x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        x = F.dropout(self.embed_norm(x), self.config.dropout, self.training)
        vectors, mask, rotation = [x], (tokens != PAD)[:, None, None], self.positions.rotation(places)
        for block in self.blocks:
            x = block.feed(block.bidirectional_attention(x, mask, rotation))
            vectors.append(x)
        return [*vectors[:-1], self.norm(x)]

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        self.refuse_unreadable(tokens, source)
        embedded, *layers, last = self.through(tokens)
        return named_layers([*map(self.norm, (embedded, *layers)), last])

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        self.refuse_unreadable(tokens, source)
        attentions = (module for module in self.modules() if isinstance(module, Attention))
        return watch(attentions, lambda: self.encode(tokens[None]))

    def refuse_unreadable(self, tokens: Tensor, source: Tensor | None) -> None:
        """Raise `SettingsError` for a source, and for a text (..., S) that the window does not hold."""
        refuse_source(self, source)
        refuse_longer(tokens, self.spec.lengths.window)

    def parts(self) -> list[Part]:
        return stack_parts("layer", self.blocks)


class GuessHead(nn.Module):
    """What stands in a hidden place: vectors (..., D) -> logits (..., V)."""

    def __init__(self, c: BlockConfig, guess: Head) -> None:
        super().__init__()
        self.dense, self.norm, self.guess = nn.Linear(c.hidden_size, c.hidden_size), norm(c), guess

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.guess(self.norm(F.gelu(self.dense(x))))
        return logits


class Judge(nn.Module):
    """What is true of a row as a whole, by the vector of its first token: (B, S, D) -> logits (B, C)."""

    def __init__(self, size: int, answers: int) -> None:
        super().__init__()
        self.pooler, self.answer = nn.Linear(size, size), nn.Linear(size, answers)

    def forward(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.answer(self.pooler(vectors[:, 0]).tanh())
        return logits
