"""Causal transformer (Vaswani et al. 2017, arXiv:1706.03762, the decoder of section 3 without cross-attention).

The options span the lecture's form (`--positions sinusoidal --norm layer --norm-place post --activation relu`), GPT-2
(Radford et al. 2019, section 2.3; preset `gpt2-tiny`), and what has been learnt since, which is the default; the papers
are named in `_blocks.py`, `_attention.py` and `_positions.py`. Where we differ from common practice: a place embeds
the tokens just before it too, each by a table of its own (`--ngram`; the sum of a log-bilinear model, Mnih & Hinton
2007, doi:10.1145/1273496.1273577, section 4), and residual branches start at zero, so that a fresh pre-norm model is an
n-gram model that deepens as it learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import KV, Attention, Slot, watch
from charlm.archs._blocks import Block, BlockConfig, norm
from charlm.archs._graph import GraphStepper
from charlm.archs._inside import layer_vectors, named_layers, stack_parts
from charlm.archs._numpy import TransformerStepper
from charlm.archs._positions import Places, positions
from charlm.archs._window import Window, Windowed
from charlm.config import Arg, DataSpec
from charlm.errors import SettingsError
from charlm.model import PAD, Head, Init, Part, Stepper, init_unigram

SMALL = 512  # tokens in a vocabulary for which tables of earlier tokens cost little


class Transformer(Windowed):
    """A stack of blocks. When its window is full it reads the newer half again and goes on."""

    recipes = {"text": {"lr": 3e-3}, "long": {"dropout": 0.1, "seq_len": 128}}
    compiles, bf16_from = True, 256

    @dataclass(frozen=True)
    class Config(BlockConfig):
        tied: Annotated[bool, Arg("let the output use the embedding's weights")] = False
        init: Init = "unigram"
        ngram: Annotated[
            int | None,
            Arg(
                "tokens embedded at each place, the ones before it too [default: 4, of a large vocabulary 1]",
                min=1,
                max=16,
            ),
        ] = None

    config: Config
    head: Head

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, length = config.hidden_size, spec.lengths.window
        self.embed = nn.Embedding(spec.input_size, size)
        self.ngram = config.ngram or (4 if spec.vocab_size <= SMALL else 1)
        rows = (self.ngram - 1) * (spec.input_size + 1)  # of each table, the oldest token's first: PAD, then the tokens
        self.earlier = nn.Embedding(rows, size) if rows else None
        self.positions = positions(config.positions, length, size, config.head_count)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = norm(config) if config.norm_place == "pre" else nn.Identity()
        self.head = Head(size, spec, bias=config.init == "unigram")
        self.initialise()
        if config.tied:
            self.head.tie(self.embed)
        if config.init == "unigram":
            init_unigram(self.head, spec)

    @torch.no_grad()
    def initialise(self) -> None:
        published = self.config.init == "published"  # as GPT-2's (section 2.3) or, with the norm behind, GPT's
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02 if published else module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.head, self.embed):
            nn.init.normal_(table.weight, std=0.02)
        if self.earlier is not None:
            nn.init.zeros_(self.earlier.weight)
        if self.config.norm_place == "pre":
            residual = 0.02 * (2 * self.config.layers) ** -0.5 if published else 0.0
            for name, p in self.named_parameters():
                if name.endswith("out.weight"):
                    nn.init.normal_(p, std=residual)

    def start(self, rows: int) -> Window:
        c, device = self.config, self.embed.weight.device
        nothing = torch.empty(rows, c.head_count, 0, c.hidden_size // c.head_count, device=device)
        return Window(torch.empty(rows, 0, dtype=torch.long, device=device), (KV(nothing, nothing),) * c.layers)

    @property
    def capacity(self) -> int:
        return self.spec.lengths.window

    def slide(self, tokens: Tensor) -> Window:
        """Reads the newer half again."""
        newest = tokens[:, -(self.capacity // 2) :]
        return self.advance(newest, self.start(len(newest)))[1]

    def stepper(self, rows: int) -> Stepper:
        if TransformerStepper.suits(self, rows):
            return TransformerStepper(self, rows)
        return GraphStepper(self, rows)

    def advance(self, tokens: Tensor, state: Window) -> tuple[Tensor, Window]:
        size = state.tokens.size(1)
        x, places = self.embedded(tokens, self.newest(state.tokens)), slice(size, size + tokens.size(1))
        hidden, layers = self.through(x, places, state.layers)
        return hidden, Window(torch.cat([state.tokens, tokens], 1), layers)

    def newest(self, tokens: Tensor) -> Tensor:
        """The last N - 1 of tokens (B, P), with PAD before them where there are fewer."""
        padded = F.pad(tokens, (self.ngram - 1, 0), value=PAD)
        return padded[:, padded.size(1) - self.ngram + 1 :]

    def embedded(self, tokens: Tensor, before: Tensor) -> Tensor:
        """tokens (B, T) and the N - 1 before them -> (B, T, D)."""
        x: Tensor = self.embed(tokens)  # (B, T, D)
        if self.earlier is not None:
            ngrams = torch.cat([before, tokens], 1).unfold(1, self.ngram - 1, 1)[:, : tokens.size(1)]  # (B, T, N-1)
            table = torch.arange(self.ngram - 1, device=tokens.device) * (self.spec.input_size + 1)
            x = x + self.earlier(ngrams + (table + 1)).sum(2)
        return x

    def through(self, x: Tensor, places: Places, pasts: Sequence[KV | Slot]) -> tuple[Tensor, tuple[KV, ...]]:
        """Embedded tokens (B, T, D) at these places of the window -> vectors, and each layer's keys and values."""
        x = F.dropout(self.positions.add(x, places), self.config.dropout, self.training)
        rotation, layers = self.positions.rotation(places), []
        for block, past in zip(self.blocks, pasts, strict=True):
            x, kv = block(x, past, rotation)
            layers.append(kv)
        return self.norm(x), tuple(layers)

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        self.refuse_unreadable(tokens, source)
        attentions = (module for module in self.modules() if isinstance(module, Attention))
        return watch(attentions, lambda: self.features(tokens[None], self.start(1)))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        self.refuse_unreadable(tokens, source)
        vectors = layer_vectors(self.blocks, lambda: self.features(tokens, self.start(len(tokens))))
        return named_layers([self.norm(x) for x in vectors])

    def refuse_unreadable(self, tokens: Tensor, source: Tensor | None) -> None:
        if source is not None:
            raise SettingsError("a transformer looks back at the text itself and reads no other; leave --source out")
        self.refuse_longer(tokens)

    def parts(self) -> list[Part]:
        return stack_parts("layer", self.blocks)
