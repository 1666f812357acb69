"""Causal transformer (Vaswani et al. 2017, arXiv:1706.03762, the decoder of section 3 without cross-attention).

The options span the lecture's form (`--positions sinusoidal --norm layer --norm-place post --activation relu`), GPT-2
(Radford et al. 2019, section 2.3; preset `gpt2-tiny`), and what has been learnt since, which is the default; the papers
are named in `_blocks.py`, `_attention.py`, `_positions.py` and `_experts.py`. All blocks may share their weights
(`--share-layers`), and embeddings be narrower than the blocks (`--embedding-size`), as in ALBERT (Lan et al. 2020,
arXiv:1909.11942, section 3.1; preset `albert-tiny`). Where we differ from common practice: a place embeds
the tokens just before it too, each by a table of its own (`--ngram`; the sum of a log-bilinear model, Mnih & Hinton
2007, doi:10.1145/1273496.1273577, section 4), and residual branches start at zero, so that a fresh pre-norm model is an
n-gram model that deepens as it learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import KV, Attention, Slot, watch
from charlm.archs._blocks import Block, BlockConfig, norm
from charlm.archs._experts import Experts, routed
from charlm.archs._graph import GraphStepper
from charlm.archs._inside import layer_vectors, named_layers, stack_parts
from charlm.archs._numpy import TransformerStepper
from charlm.archs._patterns import PatternConfig
from charlm.archs._positions import Places, positions
from charlm.archs._window import Window, Windowed
from charlm.config import Arg, DataSpec, fields_of
from charlm.errors import SettingsError
from charlm.inspection import Part
from charlm.model import PAD, Features, Head, Init, RowStepper, Stepper, init_unigram

SMALL = 512  # tokens in a vocabulary for which tables of earlier tokens cost little


class Transformer(Windowed):
    """A stack of blocks. When its window is full it reads the newer half again and goes on."""

    recipes = {
        "text": {"lr": 3e-3},
        "labels": {"lr": 1e-3},
        "long": {"dropout": 0.1, "seq_len": 128},
        "text on cuda": {"layers": 6, "hidden_size": 384, "dropout": 0.4, "lr": 1e-3},
        "long on cuda": {"dropout": 0.5},
    }
    splits, compiles, bf16_from = True, True, 256

    @dataclass(frozen=True)
    class Config(PatternConfig, BlockConfig):
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
        embedding_size: Annotated[
            int | None, Arg("numbers per embedded token [default: the hidden size]", min=1, max=65536)
        ] = None
        share_layers: Annotated[bool, Arg("one set of weights for all blocks")] = False
        experts: Annotated[
            int | None, Arg("feed-forward layers of every second block, of which a token gets one", min=2, max=4096)
        ] = None
        capacity_factor: Annotated[
            float, Arg("how many times its even share of a row an expert takes in training", min=0.01, max=4096)
        ] = 1.25
        balance: Annotated[float, Arg("weight of the loss that gives all experts as much to do", min=0, max=100)] = 0.01

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.embedding_size and self.embedding_size > self.hidden_size:
                raise SettingsError(
                    f"--embedding-size must be at most the --hidden-size {self.hidden_size}, got {self.embedding_size}",
                    field="embedding_size",
                )
            if self.share_layers and "," in self.pattern:
                raise SettingsError(
                    f"--share-layers makes all blocks alike, and --pattern {self.pattern} does not; give one pattern",
                    field="pattern",
                )
            for field in fields_of(type(self)):
                idle = field.name in ("capacity_factor", "balance") and not self.experts
                if idle and getattr(self, field.name) != field.default:
                    raise SettingsError(f"{field.flag} is for experts; give --experts N too", field=field.name)
            if self.experts and (self.share_layers or self.layers < 2):
                other = "--share-layers makes all blocks alike" if self.share_layers else "--layers 1 has no second one"
                raise SettingsError(
                    f"--experts {self.experts} stand in every second block, and {other}; leave one of them out",
                    field="experts",
                )

    config: Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, length = config.hidden_size, spec.lengths.window
        narrow = config.embedding_size or size
        self.embed = nn.Embedding(spec.input_size, narrow)
        self.ngram = config.ngram or (4 if spec.vocab_size <= SMALL else 1)
        rows = (self.ngram - 1) * (spec.input_size + 1)  # of each table, the oldest token's first: PAD, then the tokens
        self.earlier = nn.Embedding(rows, narrow) if rows else None
        self.positions = positions(config.positions, length, narrow, size // config.head_count)
        self.widen = nn.Linear(narrow, size, bias=config.bias) if narrow < size else None
        self.blocks: Any = nn.ModuleList(blocks(config, length))
        self.norm = norm(config) if config.norm_place == "pre" else nn.Identity()
        guess = Head(narrow if config.tied else size, spec, bias=config.init == "unigram")
        self.head: nn.Module = guess
        if config.tied and narrow < size:
            self.head = nn.Sequential(nn.Linear(size, narrow, bias=config.bias), guess)
        self.initialise()
        if config.tied:
            guess.tie(self.embed)
        if config.init == "unigram":
            init_unigram(guess, spec)

    @torch.no_grad()
    def initialise(self) -> None:
        published = self.config.init == "published"  # as GPT-2's (section 2.3) or, with the norm behind, GPT's
        for module in self.modules():
            if isinstance(module, Head):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02 if published else module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embed.weight, std=0.02)
        if self.earlier is not None:
            nn.init.zeros_(self.earlier.weight)
        if self.config.norm_place == "pre":
            residual = 0.02 * (2 * self.config.layers) ** -0.5 if published else 0.0
            for name, p in self.named_parameters():
                if name.endswith("out.weight"):
                    nn.init.normal_(p, std=residual)

    def units(self) -> Sequence[nn.Module]:
        return list(dict.fromkeys(self.blocks))

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
        window: Window = self.advance(newest, self.start(len(newest))).state
        return window

    def stepper(self, rows: int) -> Stepper:
        if TransformerStepper.suits(self, rows):
            return TransformerStepper(self, rows)
        return GraphStepper(self, rows)

    def row_stepper(self, rows: int) -> RowStepper:
        return TransformerStepper(self, rows) if TransformerStepper.suits(self, rows) else super().row_stepper(rows)

    def advance(self, tokens: Tensor, state: Window) -> Features:
        size = state.tokens.size(1)
        x, places = self.embedded(tokens, self.newest(state.tokens)), slice(size, size + tokens.size(1))
        out = self.through(x, places, state.layers)
        return out._replace(state=Window(torch.cat([state.tokens, tokens], 1), out.state))

    def newest(self, tokens: Tensor) -> Tensor:
        """The last N - 1 of tokens (B, P), with PAD before them where there are fewer."""
        padded = F.pad(tokens, (self.ngram - 1, 0), value=PAD)
        return padded[:, padded.size(1) - self.ngram + 1 :]

    def embedded(self, tokens: Tensor, before: Tensor) -> Tensor:
        """tokens (B, T) and the N - 1 before them -> (B, T, E)."""
        x: Tensor = self.embed(tokens)  # (B, T, E)
        if self.earlier is not None:
            ngrams = torch.cat([before, tokens], 1).unfold(1, self.ngram - 1, 1)[:, : tokens.size(1)]  # (B, T, N-1)
            table = torch.arange(self.ngram - 1, device=tokens.device) * (self.spec.input_size + 1)
            x = x + self.earlier(ngrams + (table + 1)).sum(2)
        return x

    def through(self, x: Tensor, places: Places, pasts: Sequence[KV | Slot]) -> Features:
        """Embedded tokens (B, T, E) at these places of the window -> vectors; the state: each layer's keys, values."""
        x = F.dropout(self.positions.add(x, places), self.config.dropout, self.training)
        x = x if self.widen is None else self.widen(x)  # (B, T, D)
        rotation, layers, penalties = self.positions.rotation(places), [], []
        for block, past in zip(self.blocks, pasts, strict=True):
            x, kv, penalty = block(x, past, rotation)
            layers.append(kv)
            penalties += [] if penalty is None else [penalty]
        return Features(self.norm(x), tuple(layers), torch.stack(penalties).sum() if penalties else None)

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        self.refuse_unreadable(tokens, source)
        attentions = (module for module in self.modules() if isinstance(module, Attention))
        return watch(attentions, lambda: self.features(tokens[None], self.start(1)))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        self.refuse_unreadable(tokens, source)
        vectors = layer_vectors(self.blocks, lambda: self.features(tokens, self.start(len(tokens))))
        return named_layers([self.norm(x) for x in vectors])

    def parts(self) -> list[Part]:
        return stack_parts("layer", self.blocks)

    def routing(self, tokens: Tensor) -> Mapping[int, Tensor]:
        """Of the first tokens that a window holds."""
        routers = {n: block.experts.router for n, block in enumerate(self.blocks, 1) if block.experts is not None}
        if not routers:
            return super().routing(tokens)
        return routed(routers, lambda: self.features(tokens[:, : self.capacity], self.start(len(tokens))))


def blocks(c: Transformer.Config, length: int) -> list[Block]:
    """In order, for a window of `length` tokens: if they share their weights the same one again and again."""
    patterns = c.patterns(c.layers, heads=c.head_count, length=length)
    if c.share_layers:
        return [Block(c, pattern=patterns[0])] * c.layers

    def experts(number: int) -> Experts | None:
        if not (c.experts and number % 2):
            return None
        return Experts(c, c.experts, capacity_factor=c.capacity_factor, balance=c.balance)

    return [Block(c, pattern=pattern, experts=experts(number)) for number, pattern in enumerate(patterns)]
