"""Reformer (Kitaev, Kaiser & Levskaya 2020, arXiv:2001.04451): attention by hashing, a reversible residual stream.

Attention (`_lsh.py`, section 2) compares a token with few others, those that random hashes put together with it. The
backward pass computes each layer's input anew from its output (`_reversible.py`, section 3), so the memory of a
training step does not grow with the layers, but for 4 bytes per token, head and round. The norm stands before each
sublayer, and both halves of the stream are normalised together for the output, whose weights are therefore never the
embedding's.

Where we differ: a token looks at what stands before it whatever comes after (`_lsh.py` says how), so text in pieces
means the same as text at once. Rotations are drawn anew in each training step, as in the authors' code, but are fixed
in evaluation. Dropout is on embeddings and sublayers and not on attention weights. Learned positions are one table, not
a sum over two axes. The default is the block of our `transformer`; the preset `reformer-tiny` has the paper's.

The state is the window's tokens, and what goes on from it reads them again: keys and values of each layer would be
memory that grows with the layers. Writing has a KV cache of its own, with the bucket of each key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import watch
from charlm.archs._blocks import Activation, BlockConfig, FeedForward, Heads, NormKind, PositionKind, norm
from charlm.archs._graph import WindowStepper
from charlm.archs._inside import block_parts, named_layers
from charlm.archs._lsh import LSHAttention, normalised
from charlm.archs._positions import Places, Positions, Rotary, positions
from charlm.archs._reversible import reversible
from charlm.archs._window import Windowed
from charlm.config import Arg, DataSpec, Settings
from charlm.errors import SettingsError
from charlm.inspection import Part
from charlm.model import Features, Head, Init, Stepper, init_unigram

MOST_BUCKETS = 2048  # bucket times place is a number of 32 bits


class Tokens(NamedTuple):
    """The state: what the window holds."""

    tokens: Tensor  # (B, P)


class Reformer(Windowed):
    """A stack of blocks. When its window is full it reads the newer half again and goes on."""

    recipes = {
        "text": {"lr": 3e-3},
        "labels": {"lr": 1e-3},
        "text on cuda": {"layers": 6, "hidden_size": 384, "dropout": 0.2, "lr": 1e-3},
        "long on cuda": {"dropout": 0.4},
    }

    @dataclass(frozen=True)
    class Config(Settings):
        layers: Annotated[int, Arg("blocks", min=1, max=256)] = 4
        hidden_size: Annotated[int, Arg("width of each half of the residual stream", min=1, max=65536)] = 128
        heads: Heads = None
        rounds: Annotated[int, Arg("hashes, each with buckets of its own", min=1, max=64)] = 2
        chunk: Annotated[
            int, Arg("tokens of its bucket that a token looks back on, in each round", min=1, max=4096)
        ] = 32
        buckets: Annotated[
            int | None,
            Arg("buckets of a hash, 1 or an even number [default: 2 per chunk in the window]", min=1, max=MOST_BUCKETS),
        ] = None
        positions: PositionKind = "rotary"
        norm: NormKind = "rms"
        activation: Activation = "relu2"
        bias: Annotated[bool, Arg("biases in feed-forward layers and layer norms")] = False
        dropout: Annotated[float, Arg("on embeddings and sublayers", min=0, max=0.95)] = 0.0
        init: Init = "unigram"

        def __post_init__(self) -> None:
            super().__post_init__()
            _ = self.block  # which checks that the heads divide the hidden size
            if self.buckets not in (None, 1) and self.buckets % 2:
                raise SettingsError(
                    f"--buckets must be 1 or even, as a hash is a direction or its opposite, got {self.buckets}",
                    field="buckets",
                )

        @property
        def block(self) -> BlockConfig:
            """The norms and feed-forward layers as a BlockConfig."""
            return BlockConfig(
                hidden_size=self.hidden_size,
                heads=self.heads,
                positions=self.positions,
                norm=self.norm,
                activation=self.activation,
                bias=self.bias,
            )

        @property
        def head_count(self) -> int:
            return self.block.head_count

        @property
        def derived(self) -> list[str]:
            """Settings that were not given, and so follow from the window's length."""
            return ["buckets"] if self.buckets is None else []

        def buckets_of(self, window: int) -> int:
            """How many a hash has. In a window of one chunk all tokens are in one bucket: there is nothing to save."""
            derived = min(2 * (window // self.chunk), MOST_BUCKETS) if window > self.chunk else 1
            return self.buckets or derived

    config: Config
    head: Head

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, window = config.hidden_size, spec.lengths.window
        self.embed = nn.Embedding(spec.input_size, size)
        places = positions(config.positions, window, size, size // config.head_count)
        rotary = isinstance(places, Rotary)
        self.positions, turns = (Positions(), places) if rotary else (places, Positions())
        self.branches: Any = nn.ModuleList()
        for layer in range(config.layers):
            attention = LSHAttention(
                norm(config.block),
                turns,
                size=size,
                heads=config.head_count,
                rounds=config.rounds,
                buckets=config.buckets_of(window),
                chunk=config.chunk,
                seed=layer,
            )
            self.branches.extend([attention, FeedBranch(config.block)])
        self.norm = norm(replace(config.block, hidden_size=2 * size))
        self.head = Head(2 * size, spec, bias=config.init == "unigram")
        self.initialise()
        if config.init == "unigram":
            init_unigram(self.head, spec)

    @torch.no_grad()
    def initialise(self) -> None:
        """With branches that start at zero or, by `--init published`, as the class of the library transformers does."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                own = 0.0 if name.endswith("out") else module.in_features**-0.5
                nn.init.normal_(module.weight, std=0.02 if self.config.init == "published" else own)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.head, self.embed):
            nn.init.normal_(table.weight, std=0.02)

    @property
    def capacity(self) -> int:
        return self.spec.lengths.window

    def start(self, rows: int) -> Tokens:
        return Tokens(torch.empty(rows, 0, dtype=torch.long, device=self.embed.weight.device))

    def slide(self, tokens: Tensor) -> Tokens:
        """The newer half."""
        return Tokens(tokens[:, -(self.capacity // 2) :])

    def advance(self, tokens: Tensor, state: Tokens) -> Features:
        text = torch.cat([state.tokens, tokens], 1)
        dropout = self.config.dropout if self.training else 0.0
        x = F.dropout(self.embedded(text, slice(text.size(1))), dropout, self.training)
        hidden = self.norm(torch.cat(reversible(x, self.branches, dropout), -1))
        return Features(hidden[:, state.tokens.size(1) :], Tokens(text))

    def embedded(self, tokens: Tensor, places: Places) -> Tensor:
        """tokens (B, T) at these places -> (B, T, D)."""
        return self.positions.add(self.embed(tokens), places)

    def stepper(self, rows: int) -> Stepper:
        return HashStepper(self, rows)

    def layers(self, x: Tensor, attend: Callable[[int, LSHAttention, Tensor], Tensor]) -> list[Tensor]:
        """Both halves (B, T, 2D) of the stream that begins as x (B, T, D), at first and after each layer; `attend` says
        what the attention of a layer gets from one of them."""
        x1 = x2 = x
        halves = [torch.cat([x1, x2], -1)]
        for layer, (attention, feed) in enumerate(zip(self.branches[::2], self.branches[1::2], strict=True)):
            x1 = x1 + attend(layer, attention, x2)
            x2 = x2 + feed(x1)[0]
            halves.append(torch.cat([x1, x2], -1))
        return halves

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        self.refuse_unreadable(tokens, source)
        return watch(self.branches[::2], lambda: self.advance(tokens[None], self.start(1)))

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        self.refuse_unreadable(tokens, source)
        x = self.embedded(tokens, slice(tokens.size(1)))
        halves = self.layers(x, lambda _, attention, x: attention(x)[0])
        return named_layers([self.norm(both) for both in halves])

    def parts(self) -> list[Part]:
        layers = enumerate(zip(self.branches[::2], self.branches[1::2], strict=True), 1)
        return [
            part
            for n, (attention, feed) in layers
            for part in block_parts(f"layer {n}", {"attention": attention, "feed-forward": feed})
        ]


class FeedBranch(nn.Module):
    """A branch of a reversible stream: norm and feed-forward layer."""

    def __init__(self, c: BlockConfig) -> None:
        super().__init__()
        self.norm, self.feed_forward = norm(c), FeedForward(c)

    def forward(self, x: Tensor, decided: None = None) -> tuple[Tensor, None]:  # noqa: ARG002
        return self.feed_forward(self.norm(x)), None


class HashStepper(WindowStepper):
    """One token at a time: a KV cache with room for a whole window, and the buckets of each key."""

    @torch.inference_mode()
    def __init__(self, model: Reformer, rows: int) -> None:
        super().__init__(model, rows)
        c = model.config
        self.buckets = self.token.new_zeros(c.layers, rows, c.head_count, c.rounds, self.size)

    def compute(self, token: Tensor) -> Tensor:
        model, position, slots = self.model, self.cache.position, self.cache.slots()
        self.text.index_copy_(1, position, token[:, None])
        x = model.embedded(token[:, None], position)  # (B, 1, D)
        x = model.layers(x, lambda layer, attention, x: attention.step(x, slots[layer], self.buckets[layer]))[-1]
        position += 1
        logits: Tensor = model.head(model.norm(x)[:, 0])
        return logits

    def load(self, state: Any) -> None:
        super().load(state)
        held = state.tokens.size(1)
        places = slice(held)

        def remember(layer: int, attention: LSHAttention, x: Tensor) -> Tensor:
            qk, values = attention.project(x, places)
            self.cache.keys[layer, :, :, places], self.cache.values[layer, :, :, places] = normalised(qk), values
            self.buckets[layer, ..., places] = attention.hash(qk)
            said: Tensor = attention(x)[0]
            return said

        if held:
            self.model.layers(self.model.embedded(state.tokens, places), remember)
