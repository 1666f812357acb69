"""Causal transformer (Vaswani et al. 2017, arXiv:1706.03762, the decoder of section 3 without cross-attention).

The options span the lecture's form (`--positions sinusoidal --norm layer --norm-place post --activation relu`), GPT-2
(Radford et al. 2019, section 2.3; preset `gpt2-tiny`), and what has been learnt since, which is the default; the papers
are named in `_attention.py`. Where we differ from common practice: a place embeds the tokens just before it too, each
by a table of its own (`--ngram`; the sum of a log-bilinear model, Mnih & Hinton 2007, doi:10.1145/1273496.1273577,
section 4), and residual branches start at zero, so that a fresh pre-norm model is an n-gram model that deepens as it
learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import Block, BlockConfig, Here, Past, SelfAttention, norm, rotations, sinusoids, watch
from charlm.archs._graph import WindowStep
from charlm.archs._step import FEW, TransformerStep, on_cpu
from charlm.archs._window import Windowed
from charlm.config import Arg, DataSpec
from charlm.errors import SettingsError
from charlm.model import PAD, Start, Step, start_at_unigram, tie

SMALL = 512  # tokens in a vocabulary for which tables of earlier tokens cost little


class Cache(NamedTuple):
    tokens: Tensor  # (B, P) what the window holds
    layers: tuple[Past | None, ...]


class Transformer(Windowed):
    """A stack of blocks. When its window is full it reads the newer half again and goes on."""

    recipe = {"lr": 3e-3}
    long_recipe = {"dropout": 0.1, "seq_len": 128}
    compiles, bf16_from = True, 256

    @dataclass(frozen=True)
    class Config(BlockConfig):
        tied: Annotated[bool, Arg("let the output use the embedding's weights")] = False
        start: Start = "unigram"
        ngram: Annotated[
            int | None,
            Arg(
                "tokens embedded at each place, the ones before it too [default: 4, of a large vocabulary 1]",
                min=1,
                max=16,
            ),
        ] = None

    config: Config
    head: nn.Linear
    table: Tensor  # (seq_len, ...) fixed positions, where there are any

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, length = config.hidden_size, spec.seq_len
        self.embed = nn.Embedding(spec.vocab_size, size)
        self.ngram = config.ngram or (4 if spec.vocab_size <= SMALL else 1)
        rows = (self.ngram - 1) * (spec.vocab_size + 1)  # of each table, the oldest token's first: PAD, then the tokens
        self.earlier = nn.Embedding(rows, size) if rows else None
        self.place = nn.Embedding(length, size) if config.positions == "learned" else None
        fixed = {"sinusoidal": (sinusoids, size), "rotary": (rotations, size // config.head_count)}.get(
            config.positions
        )
        self.register_buffer("table", fixed[0](length, fixed[1]) if fixed else None, persistent=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = norm(config) if config.norm_place == "pre" else nn.Identity()
        self.head = nn.Linear(size, spec.vocab_size, bias=config.start == "unigram")
        self.initialise()
        if config.tied:
            tie(self.head, self.embed)
        if config.start == "unigram":
            start_at_unigram(self.head, spec)

    @torch.no_grad()
    def initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.head, self.embed, self.place):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        if self.earlier is not None:
            nn.init.zeros_(self.earlier.weight)
        if self.config.norm_place == "pre":
            for name, p in self.named_parameters():
                if name.endswith("out.weight"):
                    nn.init.zeros_(p)

    def blank(self, tokens: Tensor) -> Cache:
        return Cache(tokens[:, :0], (None,) * self.config.layers)

    def room(self, state: Cache) -> int:
        return self.spec.seq_len - state.tokens.size(1)

    def slide(self, state: Cache) -> Cache:
        newest = state.tokens[:, -(self.spec.seq_len // 2) :]
        return self.write(newest, self.blank(newest))[1]

    def stepper(self, batch_size: int) -> Step:
        if on_cpu(self):
            return TransformerStep(self) if batch_size <= FEW else self.step
        return WindowStep(self, batch_size) if self.embed.weight.is_cuda else self.step

    def write(self, tokens: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        size = state.tokens.size(1)
        x, here = self.embedded(tokens, self.newest(state.tokens)), slice(size, size + tokens.size(1))
        hidden, layers = self.through(x, here, state.layers)
        return hidden, Cache(torch.cat([state.tokens, tokens], 1), layers)

    def newest(self, tokens: Tensor) -> Tensor:
        """The last N - 1 of tokens (B, P), with PAD before them where there are fewer."""
        padded = F.pad(tokens, (self.ngram - 1, 0), value=PAD)
        return padded[:, padded.size(1) - self.ngram + 1 :]

    def embedded(self, tokens: Tensor, before: Tensor) -> Tensor:
        """tokens (B, T) and the N - 1 before them -> (B, T, D)."""
        x: Tensor = self.embed(tokens)  # (B, T, D)
        if self.earlier is not None:
            ngrams = torch.cat([before, tokens], 1).unfold(1, self.ngram - 1, 1)[:, : tokens.size(1)]  # (B, T, N-1)
            table = torch.arange(self.ngram - 1, device=tokens.device) * (self.spec.vocab_size + 1)
            x = x + self.earlier(ngrams + (table + 1)).sum(2)
        return x

    def through(self, x: Tensor, here: Here, pasts: tuple[Past | None, ...]) -> tuple[Tensor, tuple[Past | None, ...]]:
        """Embedded tokens (B, T, D) at these places of the window -> vectors, and each layer's keys and values."""
        turn = None
        if self.config.positions == "rotary":
            turn = self.table[here]
        elif self.config.positions == "sinusoidal":
            x = x + self.table[here]
        elif self.place is not None:
            x = x + self.place.weight[here]
        x = F.dropout(x, self.config.dropout, self.training)
        layers = []
        for block, past in zip(self.blocks, pasts, strict=True):
            x, past = block(x, turn, past, here, self.spec.seq_len)
            layers.append(past)
        return self.norm(x), tuple(layers)

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        if source is not None:
            raise SettingsError("a transformer looks back at the text itself and reads no other; leave --source out")
        if len(tokens) > self.spec.seq_len:
            raise SettingsError(
                f"the text has {len(tokens)} tokens and the window of this run holds {self.spec.seq_len}; "
                "give a shorter one"
            )
        attentions = (module for module in self.modules() if isinstance(module, SelfAttention))
        return watch(attentions, lambda: self.features(tokens[None]))
