"""Building blocks of the transformers: positions, norms, attention, feed-forward.

Vaswani et al. 2017, arXiv:1706.03762: scaled dot-product attention (section 3.2.1), heads (3.2.2), feed-forward (3.3),
sinusoidal positions (3.5). Su et al. 2021, arXiv:2104.09864: rotary positions (section 3.2). Xiong et al. 2020,
arXiv:2002.04745: the norm before or after (section 3). Shazeer 2020, arXiv:2002.05202: SwiGLU (section 2). So et al.
2021, arXiv:2109.08668: squared ReLU (section 3). Zhang & Sennrich 2019, arXiv:1910.07467: RMS norm (section 4).
Henry et al. 2020, arXiv:2010.04245: query-key normalisation (section 3), where the cosine of query and key is
multiplied by a learned number; here that number stays at the square root of a head's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.config import Arg, Settings
from charlm.errors import SettingsError

Heads = Annotated[int | None, Arg("attention heads [default: of 64 units, in narrow models of 32]", min=1, max=4096)]
NormPlace = Annotated[Literal["pre", "post"], Arg("before each sublayer, or after its residual sum")]
Dropout = Annotated[float, Arg("on embeddings, attention and sublayers", min=0, max=0.95)]


@dataclass(frozen=True)
class BlockConfig(Settings):
    layers: Annotated[int, Arg("blocks", min=1, max=256)] = 4
    hidden_size: Annotated[int, Arg("width of the residual stream", min=1, max=65536)] = 128
    heads: Heads = None
    positions: Annotated[
        Literal["sinusoidal", "learned", "rotary", "none"], Arg("how the model knows where a token stands")
    ] = "rotary"
    norm: Annotated[Literal["layer", "rms"], Arg("kind of normalisation")] = "rms"
    norm_place: NormPlace = "pre"
    activation: Annotated[Literal["relu", "gelu", "relu2", "swiglu"], Arg("of the feed-forward layer")] = "relu2"
    qk_norm: Annotated[bool, Arg("normalise queries and keys")] = True
    bias: Annotated[bool, Arg("biases in linear layers and layer norms")] = False
    dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.head_count:
            raise SettingsError(
                f"--hidden-size must be a multiple of --heads, got {self.hidden_size} and {self.head_count}"
            )
        if self.positions == "rotary" and (self.hidden_size // self.head_count) % 2:
            raise SettingsError(
                "--positions rotary needs an even number of units per head, "
                f"got {self.hidden_size} / {self.head_count}; change --hidden-size or --heads"
            )

    @property
    def head_count(self) -> int:
        return self.heads or max(1, self.hidden_size // (64 if self.hidden_size >= 256 else 32))


Here = slice | Tensor
"""The places of the tokens fed: a slice, or one place (1,) that only the device knows, so that no shape changes."""


class Past(NamedTuple):
    """One layer's keys and values. Outside autograd the buffers have room for a whole window."""

    keys: Tensor  # (B, H, P or more, D/H)
    values: Tensor  # (B, H, P or more, D/H)


class SelfAttention(nn.Module):
    def __init__(self, c: BlockConfig) -> None:
        super().__init__()
        self.heads, self.dropout, self.qk_norm = c.head_count, c.dropout, c.qk_norm
        self.qkv = nn.Linear(c.hidden_size, 3 * c.hidden_size, bias=c.bias)
        self.out = nn.Linear(c.hidden_size, c.hidden_size, bias=c.bias)

    def forward(self, x: Tensor, turn: Tensor | None, past: Past | None, here: Here, room: int) -> tuple[Tensor, Past]:
        """Causal attention of x (B, T, D), whose places are `here`, over itself and the tokens before it, `room` tokens
        at the most.
        """
        t, mask = x.size(1), None
        q, k, v = self.project(x, turn)
        if isinstance(here, Tensor):
            assert past is not None
            past = Past(past.keys.index_copy_(2, here, k), past.values.index_copy_(2, here, v))
            seen, mask = past, (torch.arange(room, device=x.device) <= here)[None]  # (B, H, W, D/H), (1, W)
        else:
            past = extend(past, k, v, here.start, room)
            seen = Past(past.keys[:, :, : here.stop], past.values[:, :, : here.stop])
            if here.start and t > 1:
                mask = causal_mask(t, here.start, x.device)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, *seen, mask, dropout, is_causal=mask is None and t > 1)
        return self.out(y.transpose(1, 2).flatten(2)), past

    def project(self, x: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys as they are compared, and values, (B, H, T, D/H) each."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, T, D/H) each
        if self.qk_norm:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        return q, k, v

    def weights(self, x: Tensor, turn: Tensor | None, *_: object) -> Tensor:
        """Attention (B, H, T, T) of x (B, T, D) over itself, which the fused product in `forward` never shows."""
        q, k = self.project(x, turn)[:2]
        energy = q @ k.mT / math.sqrt(q.size(-1))
        return energy.masked_fill(~causal_mask(x.size(1), 0, x.device), -math.inf).softmax(-1)


def extend(past: Past | None, k: Tensor, v: Tensor, size: int, room: int) -> Past:
    """The `size` old keys and values with the new ones behind them; written in place where autograd allows."""
    if torch.is_grad_enabled():
        if past is None:
            return Past(k, v)
        return Past(torch.cat([past.keys[:, :, :size], k], 2), torch.cat([past.values[:, :, :size], v], 2))
    buffers = []
    for old, new in zip(past or (None, None), (k, v), strict=True):
        if old is None or old.size(2) < room:
            grown = new.new_empty(*new.shape[:2], room, new.size(3))
            if old is not None:
                grown[:, :, :size] = old[:, :, :size]
            old = grown
        old[:, :, size : size + new.size(2)] = new
        buffers.append(old)
    return Past(*buffers)


def watch(attentions: Iterable[nn.Module], run: Callable[[], object]) -> Tensor:
    """(L, H, T, S) the weights of each of these, called once by `run`, on its only row."""
    layers: list[Tensor] = []

    def listen(attention: Any, given: tuple[Any, ...]) -> None:
        layers.append(attention.weights(*given)[0])  # (H, T, S)

    hooks = [attention.register_forward_pre_hook(listen) for attention in attentions]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(layers)


class FeedForward(nn.Module):
    def __init__(self, c: BlockConfig, inner: int | None = None) -> None:
        super().__init__()
        self.activation = c.activation
        gated = c.activation == "swiglu"
        inner = inner or (8 * c.hidden_size // 3 if gated else 4 * c.hidden_size)  # as many weights either way
        self.up = nn.Linear(c.hidden_size, 2 * inner if gated else inner, bias=c.bias)
        self.out = nn.Linear(inner, c.hidden_size, bias=c.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.activation == "swiglu":
            gate, x = x.chunk(2, -1)
            x = F.silu(gate) * x
        elif self.activation == "gelu":
            x = F.gelu(x, approximate="tanh")  # the form that GPT-2 uses
        else:
            x = F.relu(x)
        out: Tensor = self.out(x * x if self.activation == "relu2" else x)  # square() has a slow backward pass
        return out


class Residual(nn.Module):
    """Adds what its sublayers say to what they were told. The norm stands before the sublayer, or after the sum."""

    def __init__(self, c: BlockConfig) -> None:
        super().__init__()
        self.pre, self.dropout = c.norm_place == "pre", c.dropout

    def before(self, x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x) if self.pre else x

    def after(self, x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
        x = x + F.dropout(y, self.dropout, self.training)
        return x if self.pre else norm(x)


class Block(Residual):
    def __init__(self, c: BlockConfig) -> None:
        super().__init__(c)
        self.norm1, self.attention = norm(c), SelfAttention(c)
        self.norm2, self.feed_forward = norm(c), FeedForward(c)

    def forward(self, x: Tensor, turn: Tensor | None, past: Past | None, here: Here, room: int) -> tuple[Tensor, Past]:
        """One layer on x (B, T, D); the arguments are those of `SelfAttention`."""
        y, past = self.attention(self.before(x, self.norm1), turn, past, here, room)
        x = self.after(x, y, self.norm1)
        y = self.feed_forward(self.before(x, self.norm2))
        return self.after(x, y, self.norm2), past


def norm(c: BlockConfig) -> nn.Module:
    if c.norm == "rms":
        return nn.RMSNorm(c.hidden_size, eps=1e-6)
    return nn.LayerNorm(c.hidden_size, bias=c.bias)


def causal_mask(t: int, past: int, device: torch.device) -> Tensor:
    """(T, P + T) True where a token may look: at the past, at earlier tokens, at itself."""
    return torch.ones(t, past + t, dtype=torch.bool, device=device).tril(past)


def sinusoids(length: int, size: int) -> Tensor:
    """(length, size) sines in the even columns, cosines in the odd ones (Vaswani et al., section 3.5)."""
    angles = angle_table(length, size + size % 2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :size]


def angle_table(length: int, size: int) -> Tensor:
    """(length, size / 2) position times frequency, from 1 down to 1/10000."""
    if torch.get_default_device().type == "meta":  # only sizes are wanted
        return torch.empty(length, size // 2)
    frequency = 10_000.0 ** (-torch.arange(0, size, 2) / size)
    return torch.arange(length)[:, None] * frequency


def rotations(length: int, size: int) -> Tensor:
    """(length, 2, size / 2) cosines and sines that turn a head's pairs by an angle per position."""
    angles = angle_table(length, size)
    return torch.stack([angles.cos(), angles.sin()], 1)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """x (B, H, T, D/H) with each pair (first half, second half) turned by its position's angle, turn (T, 2, D/2H)."""
    cos, sin = turn.unbind(1)  # (T, D/2H) each
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
