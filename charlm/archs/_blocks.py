"""Blocks of transformers, composed of attention, norms and a feed-forward layer.

Vaswani et al. 2017, arXiv:1706.03762: blocks (section 3.1), feed-forward (3.3), dropout (5.4). Xiong et al. 2020,
arXiv:2002.04745: the norm before or after (section 3). Shazeer 2020, arXiv:2002.05202: SwiGLU (section 2). So et al.
2021, arXiv:2109.08668: squared ReLU (section 3). Zhang & Sennrich 2019, arXiv:1910.07467: RMS norm (section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import KV, Attention, Slot
from charlm.archs._patterns import Pattern
from charlm.archs._sparse import PatternMask
from charlm.config import Arg, Settings
from charlm.errors import SettingsError

Heads = Annotated[int | None, Arg("attention heads [default: of 64 units, in narrow models of 32]", min=1, max=4096)]
PositionKind = Annotated[
    Literal["sinusoidal", "learned", "rotary", "none"], Arg("how the model knows where a token stands")
]
NormKind = Annotated[Literal["layer", "rms"], Arg("kind of normalisation")]
NormPlace = Annotated[Literal["pre", "post"], Arg("before each sublayer, or after its residual sum")]
Activation = Annotated[
    Literal["relu", "gelu", "erf-gelu", "relu2", "swiglu"], Arg("of the feed-forward layer; gelu: the tanh form")
]
Dropout = Annotated[float, Arg("on embeddings, attention and sublayers", min=0, max=0.95)]


@dataclass(frozen=True)
class BlockConfig(Settings):
    layers: Annotated[int, Arg("blocks", min=1, max=256)] = 4
    hidden_size: Annotated[int, Arg("width of the residual stream", min=1, max=65536)] = 128
    heads: Heads = None
    positions: PositionKind = "rotary"
    norm: NormKind = "rms"
    norm_place: NormPlace = "pre"
    activation: Activation = "relu2"
    qk_norm: Annotated[bool, Arg("normalise queries and keys")] = True
    bias: Annotated[bool, Arg("biases in linear layers and layer norms")] = False
    dropout: Dropout = 0.0

    eps: ClassVar[float] = 1e-5  # of layer norms

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.head_count:
            raise SettingsError(
                f"--hidden-size must be a multiple of --heads, got {self.hidden_size} and {self.head_count}",
                field="hidden_size",
            )
        if self.positions == "rotary" and (self.hidden_size // self.head_count) % 2:
            raise SettingsError(
                "--positions rotary needs an even number of units per head, "
                f"got {self.hidden_size} / {self.head_count}; change --hidden-size or --heads",
                field="positions",
            )

    @property
    def head_count(self) -> int:
        return self.heads or max(1, self.hidden_size // (64 if self.hidden_size >= 256 else 32))


@dataclass(frozen=True)
class PublishedBlock(BlockConfig):
    """With the layer norms of TensorFlow 1, in which BERT and XLNet were written."""

    eps: ClassVar[float] = 1e-12


def original_block(
    c: Any, positions: str, *, activation: str = "relu", kind: type[BlockConfig] = BlockConfig
) -> BlockConfig:
    """That of Vaswani et al. 2017, of a network's width, heads, dropout and place of norms."""
    return kind(
        hidden_size=c.hidden_size,
        heads=c.heads,
        positions=positions,  # type: ignore[arg-type]  # which is checked
        norm="layer",
        norm_place=c.norm_place,
        activation=activation,  # type: ignore[arg-type]
        qk_norm=False,
        bias=True,
        dropout=c.dropout,
    )


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),  # the form that GPT-2 uses
    "erf-gelu": F.gelu,  # the exact one, which BERT uses
    "relu2": lambda x: (y := F.relu(x)) * y,  # square() has a slow backward pass
    "swiglu": lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
}
GATED = {"swiglu"}  # halves the numbers that it gets


class FeedForward(nn.Module):
    def __init__(self, c: BlockConfig, inner: int | None = None) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[c.activation]
        gated = c.activation in GATED
        inner = inner or (8 * c.hidden_size // 3 if gated else 4 * c.hidden_size)  # as many weights either way
        self.up = nn.Linear(c.hidden_size, 2 * inner if gated else inner, bias=c.bias)
        self.out = nn.Linear(inner, c.hidden_size, bias=c.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.activation(self.up(x)))
        return y


def norm(c: BlockConfig) -> nn.Module:
    if c.norm == "rms":
        return nn.RMSNorm(c.hidden_size, eps=1e-6)
    return nn.LayerNorm(c.hidden_size, c.eps, bias=c.bias)


class Block(nn.Module):
    """Attention of a text over itself, perhaps over a source too (`cross`), and a feed-forward layer, or `experts`.

    Each is a sublayer: what it says is added to what it got, and the norm stands before it, or after the sum. With a
    `pattern` the attention of the text over itself leaves out what that does not allow.
    """

    def __init__(
        self,
        c: BlockConfig,
        *,
        cross: bool = False,
        inner: int | None = None,
        pattern: Pattern | None = None,
        experts: nn.Module | None = None,
        attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.pre, self.dropout, self.pattern = c.norm_place == "pre", c.dropout, pattern

        def plain() -> Attention:
            return Attention(c.hidden_size, c.head_count, bias=c.bias, dropout=c.dropout, qk_norm=c.qk_norm)

        self.norm1 = norm(c)
        self.attention: Any = attention or plain()
        self.norm2: nn.Module | None = norm(c) if cross else None
        self.cross: Attention | None = plain() if cross else None
        self.norm3, self.experts = norm(c), experts
        self.feed_forward: FeedForward | None = None if experts else FeedForward(c, inner)

    def forward(self, x: Tensor, past: KV | Slot, rotation: Tensor | None = None) -> tuple[Tensor, KV, Tensor | None]:
        """x (B, T, D), each place looking at `past` and at those up to itself; the past with x behind it; and what the
        experts' imbalance costs in training, ()."""
        x, kv = self.causal_attention(x, past, rotation)
        if self.experts is None:
            return self.feed(x), kv, None
        y, penalty = self.experts(self.normed(x, self.norm3))
        return self.residual(x, y, self.norm3), kv, penalty

    def sublayers(self) -> dict[str, Any]:
        """What adds to the residual stream, by name, in order."""
        cross = {} if self.cross is None else {"cross-attention": self.cross}
        last = {"feed-forward": self.feed_forward} if self.experts is None else {"experts": self.experts}
        return {"attention": self.attention, **cross, **last}

    def causal_attention(self, x: Tensor, past: KV | Slot, rotation: Tensor | None = None) -> tuple[Tensor, KV]:
        """The first sublayer, causal."""
        q, k, v = self.attention.project(self.normed(x, self.norm1), rotation)
        kv, mask = past.extend(k, v, self.pattern)
        causal = mask is None and bool(q.size(2) > 1)  # a symbol while a graph is exported
        return self.residual(x, self.attention(q, kv, mask, causal), self.norm1), kv

    def bidirectional_attention(self, x: Tensor, mask: Tensor | None, rotation: Tensor | None = None) -> Tensor:
        """The first sublayer, in both directions: x (B, S, D), `mask` (B, 1, 1, S) True at tokens."""
        q, k, v = self.attention.project(self.normed(x, self.norm1), rotation)
        seen = mask if self.pattern is None else PatternMask(self.pattern, mask)
        return self.residual(x, self.attention(q, KV(k, v), seen), self.norm1)

    def cross_attention(self, x: Tensor, source: KV, mask: Tensor) -> Tensor:
        """The second sublayer: x (B, T, D) over a source, `mask` (B, 1, 1, S) True at its tokens."""
        assert self.cross is not None
        assert self.norm2 is not None
        return self.residual(x, self.cross(self.cross.queries(self.normed(x, self.norm2)), source, mask), self.norm2)

    def cross_weights(self, x: Tensor, source: KV, mask: Tensor) -> Tensor:
        """The weights (B, H, T, S) of `cross_attention`."""
        assert self.cross is not None
        assert self.norm2 is not None
        return self.cross.weights(self.cross.queries(self.normed(x, self.norm2)), source, mask)

    def feed(self, x: Tensor) -> Tensor:
        """The last sublayer, of each place by itself."""
        assert self.feed_forward is not None
        return self.residual(x, self.feed_forward(self.normed(x, self.norm3)), self.norm3)

    def normed(self, x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x) if self.pre else x

    def residual(self, x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
        x = x + F.dropout(y, self.dropout, self.training)
        return x if self.pre else norm(x)
