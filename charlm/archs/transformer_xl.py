"""Transformer-XL: a transformer that remembers what its layers saw before (Dai et al. 2019, arXiv:1901.02860).

Each layer looks at its own inputs at the M tokens before a segment too, which are carried from segment to segment
without gradient (section 3.2), and knows of a token how far back it stands (section 3.3; `_relative.py`). Blocks are as
published: norm after each sublayer, ReLU, biases in feed-forward layers alone.

In training a token looks at those of its segment and at M before these: at M + T - 1 others at most, for T tokens per
segment. Were that so in writing, what it sees would depend on where the text was cut. So each token looks at the same
number of tokens before it (`same_length` in the authors' code, which is how they evaluate), as many as at a segment's
end in training or `--eval-memory`, and what is carried is all that cuts segments short.

Where we differ: u and v are of each layer its own (as in XLNet), embeddings are not multiplied by sqrt(D), dropout is
not applied to the sinusoids, within feed-forward layers or after the last layer, and there is no adaptive softmax.
`--init unigram` starts residual branches at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import watch
from charlm.archs._blocks import BlockConfig, Dropout, Heads, NormPlace, norm, original_block
from charlm.archs._inside import layer_vectors, named_layers, refuse_source, stack_parts
from charlm.archs._relative import RelativeAttention, RelativeBlock, distance_table
from charlm.archs._relative_steppers import relative_stepper
from charlm.config import Arg, DataSpec, Settings
from charlm.errors import SettingsError
from charlm.inspection import Part
from charlm.model import (
    Features,
    Head,
    Init,
    LanguageModel,
    State,
    Stepper,
    detach,
    init_unigram,
    joined,
    map_state,
)

PIECE = 64  # tokens or more are read at once; many more would cost scores that nothing sees


class Memory(NamedTuple):
    known: Tensor  # (B,) how many of the remembered places hold a token; the others are before the text's beginning
    layers: tuple[Tensor, ...]  # of each layer its inputs at the last P tokens, (B, P, D)


class TransformerXL(LanguageModel):
    """State: what each layer was given at the last tokens: as many as can be looked at, of which `carry` keeps M."""

    recipes = {
        "text": {"lr": 3e-3},
        "labels": {"lr": 1e-3},
        "text on cuda": {"layers": 6, "hidden_size": 384, "dropout": 0.2, "lr": 1e-3},
        "long on cuda": {"dropout": 0.4},
    }
    table: Tensor  # (C + 1, D) sinusoids of the distances, furthest first

    @dataclass(frozen=True)
    class Config(Settings):
        layers: Annotated[int, Arg("blocks", min=1, max=256)] = 4
        hidden_size: Annotated[int, Arg("width of the residual stream", min=1, max=65536)] = 128
        heads: Heads = None
        memory: Annotated[
            int, Arg("tokens before a segment that its tokens look at, in each layer", min=0, max=65536)
        ] = 32
        eval_memory: Annotated[
            int | None,
            Arg(
                "tokens before it that a token looks at in scoring and writing [default: as many as at most in "
                "training, --memory + --seq-len - 1]",
                min=0,
                max=65536,
            ),
        ] = None
        clamp: Annotated[
            int | None,
            Arg(
                "distance in tokens that all further ones are taken for [default: the furthest in training]",
                min=0,
                max=1_000_000,
            ),
        ] = None
        norm_place: NormPlace = "post"
        dropout: Dropout = 0.0
        tied: Annotated[bool, Arg("let the output use the embedding's weights")] = False
        init: Init = "unigram"

        def __post_init__(self) -> None:
            super().__post_init__()
            _ = self.block  # which checks that the heads divide the hidden size

        @property
        def derived(self) -> list[str]:
            """Settings that were not given, and so follow from the length of a segment."""
            return [name for name in ("eval_memory", "clamp") if getattr(self, name) is None]

        @property
        def block(self) -> BlockConfig:
            """The paper's block as a BlockConfig, but for its attention."""
            return original_block(self, "none")

    config: Config
    head: Head

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, c = config.hidden_size, config.block
        furthest = config.memory + spec.lengths.training - 1
        self.reaches = furthest, furthest if config.eval_memory is None else config.eval_memory
        clamp = furthest if config.clamp is None else config.clamp
        self.register_buffer("table", distance_table(self.capacity, size, clamp), persistent=False)
        self.embed = nn.Embedding(spec.input_size, size)
        self.blocks: Any = nn.ModuleList(RelativeBlock(c) for _ in range(config.layers))
        self.norm = norm(c) if config.norm_place == "pre" else nn.Identity()
        self.head = Head(size, spec, bias=config.init == "unigram")
        self.initialise()
        if config.tied:
            self.head.tie(self.embed)
        if config.init == "unigram":
            init_unigram(self.head, spec)

    @torch.no_grad()
    def initialise(self) -> None:
        """As the authors do or, by `--init unigram`, with residual branches that start at zero."""
        published = self.config.init == "published"
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif name.endswith(("content", "place")) or p is self.embed.weight or p is self.head.weight:
                nn.init.normal_(p, std=0.02)
            elif p.dim() == 2:
                nn.init.normal_(p, std=0.02 if published else p.size(1) ** -0.5)
            elif published:
                nn.init.normal_(p, 1.0, 0.02)  # what norms multiply by
            if name.endswith("out.weight") and not published:
                nn.init.zeros_(p)

    def units(self) -> Sequence[nn.Module]:
        return list(self.blocks)

    @property
    def reach(self) -> int:
        """How many tokens before it a token looks at, in each layer."""
        in_training, evaluated = self.reaches
        return in_training if self.training else evaluated

    @property
    def capacity(self) -> int:
        """How many tokens a state remembers at most."""
        return max(self.reaches)

    @property
    def window(self) -> int:
        """Each layer sees so much further back than the one before: a guess rests on so many tokens, and no others."""
        return self.config.layers * self.reaches[1] + 1

    def start(self, rows: int) -> Memory:
        nothing = self.embed.weight.new_zeros(rows, self.config.memory, self.config.hidden_size)
        return Memory(nothing.new_zeros(rows), (nothing,) * self.config.layers)

    def forgotten(self, length: int) -> int:
        """All but what its layers still know of in the end, however indirectly."""
        return max(0, length - self.config.layers * self.capacity)

    def features(self, tokens: Tensor, state: Memory) -> Features:
        pieces = []
        for piece in torch.split(tokens, max(PIECE, self.reach + 1), 1):
            pieces.append(self.advance(piece, state))
            state = pieces[-1].state
        return joined(pieces)

    def advance(self, tokens: Tensor, state: Memory) -> Features:
        """`features` of a piece, at once."""
        new, past = tokens.size(1), state.layers[0].size(1)
        before = torch.arange(past, -new, -1, device=tokens.device)  # how many tokens before the first of these
        unknown = before > state.known[:, None, None, None]  # (B, 1, 1, P + T)
        reach = min(self.reach, past + new - 1)
        table = self.table[self.capacity - reach :]  # (N, D)
        x = F.dropout(self.embed(tokens), self.config.dropout, self.training)  # (B, T, D)
        layers = []
        for block, memory in zip(self.blocks, state.layers, strict=True):
            seen = torch.cat([memory, x], 1)  # (B, P + T, D)
            layers.append(seen[:, max(0, past + new - self.capacity) :])
            x = block(seen, new, table, unknown)
        return Features(self.norm(x), Memory((state.known + new).clamp(max=self.capacity), tuple(layers)))

    def carry(self, state: Memory) -> State:
        """The last M tokens, in full precision whatever that of the next segment is."""
        known, layers, size = state.known, state.layers, self.config.memory
        kept = Memory(known.clamp(max=size), tuple(layer[:, layer.size(1) - size :] for layer in layers))
        return map_state(Tensor.float, detach(kept))

    def stepper(self, rows: int) -> Stepper:
        return relative_stepper(self, rows)

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        self.refuse_unreadable(tokens, source)
        attentions = (module for module in self.modules() if isinstance(module, RelativeAttention))
        weights = watch(attentions, lambda: self.advance(tokens[None], self.start(1)))  # (L, H, T, P + T)
        return weights[..., weights.size(-1) - len(tokens) :]

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        self.refuse_unreadable(tokens, source)
        vectors = layer_vectors(self.blocks, lambda: self.advance(tokens, self.start(len(tokens))))
        return named_layers([self.norm(x[:, -tokens.size(1) :]) for x in vectors])

    def refuse_unreadable(self, tokens: Tensor, source: Tensor | None) -> None:
        refuse_source(self, source)
        if tokens.size(-1) > self.window:
            raise SettingsError(
                f"the text has {tokens.size(-1)} tokens and a guess of this run looks back on {self.window}; "
                "give a shorter one"
            )

    def parts(self) -> list[Part]:
        return stack_parts("layer", self.blocks)
