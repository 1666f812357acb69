"""Attention by locality-sensitive hashing: a token looks at those whose queries point into its own direction.

Kitaev, Kaiser & Levskaya 2020, arXiv:2001.04451, section 2. One vector is query and key, as a key divided by its
length. In each round a random rotation R puts a vector x into bucket argmax [xR; -xR] (Andoni et al. 2015,
arXiv:1509.02897). Tokens are sorted by bucket and place and cut into chunks, each of which is compared with itself and
the chunk before it. Rounds are merged by their sums of exponentials: what two rounds see counts twice. A token looks at
itself only where there is nothing else to look at.

Where we differ: in each round a token looks at the newest `chunk` tokens before it in its own bucket. In the paper it
looks at all earlier ones in its own chunk and the one before, whatever their bucket. Where chunks begin depends on how
many later tokens are sorted before them, so a guess would depend on the text after it, and could neither be written
token by token nor be scored. With a look back of exactly `chunk` tokens, chunks are only a way to compute: it always
lies within the two.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._attention import Slot
from charlm.archs._positions import Places, Positions, rotate

SELF = -1e5  # the energy of looking at oneself, below that of anything else; finite, as it may be all there is


class LSHAttention(nn.Module):
    """A branch of a reversible stream: norm, attention and projection. What it decides is the order of the tokens."""

    rotations: Tensor  # (H, R, D/H, buckets/2) of evaluation; each training step draws its own

    def __init__(
        self,
        norm: nn.Module,
        positions: Positions,
        *,
        size: int,
        heads: int,
        rounds: int,
        buckets: int,
        chunk: int,
        seed: int,
    ) -> None:
        """`buckets` is 1 or even, `seed` the number from which the rotations are drawn."""
        super().__init__()
        self.heads, self.chunk, self.buckets = heads, chunk, buckets
        self.norm, self.positions = norm, positions
        self.qk_v = nn.Linear(size, 2 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        of_rounds = [rotation(seed, number, heads, size // heads, buckets // 2) for number in range(rounds)]
        self.register_buffer("rotations", torch.stack(of_rounds, 1), persistent=False)

    def project(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Queries, which are keys, and values (B, H, T, D/H) of x (B, T, D) at these places of the window."""
        both = self.qk_v(self.norm(x)).unflatten(-1, (2, self.heads, -1))  # (B, T, 2, H, D/H)
        qk, v = both.permute(2, 0, 3, 1, 4).unbind()
        turn = self.positions.rotation(places)
        return qk if turn is None else rotate(qk, turn), v

    @torch.no_grad()
    def hash(self, qk: Tensor) -> Tensor:
        """The bucket in each round, (B, H, R, T), of qk (B, H, T, D/H)."""
        rotations = torch.randn_like(self.rotations) if self.training else self.rotations
        if self.buckets == 1:
            return torch.zeros(*qk.shape[:2], rotations.size(1), qk.size(2), dtype=torch.long, device=qk.device)
        turned = torch.einsum("bhtd,hrdn->bhrtn", qk.to(rotations.dtype), rotations)
        return torch.cat([turned, -turned], -1).argmax(-1)

    def forward(self, x: Tensor, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, D) from the window's first place on -> (B, T, D), and the order that `in_order` made."""
        qk, v = self.project(x, slice(x.size(1)))
        order = in_order(self.hash(qk)) if order is None else order
        mixed = chunked(qk, v, order, self.chunk)
        return self.out(mixed.transpose(1, 2).flatten(2)), order

    def step(self, x: Tensor, slot: Slot, buckets: Tensor) -> Tensor:
        """x (B, 1, D) at the slot's place -> (B, 1, D). Its buckets are written into `buckets` (B, H, R, W)."""
        qk, v = self.project(x, slot.position)
        keys, values = slot.extend(normalised(qk), v)[0]
        hashed = self.hash(qk)  # (B, H, R, 1)
        buckets.index_copy_(3, slot.position, hashed)
        own = torch.arange(keys.size(2), device=x.device)[None] == slot.position  # (1, W)
        mixed = shares(qk, keys, looks(hashed, buckets, slot.mask & ~own, self.chunk), own).to(v.dtype) @ values
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y

    def weights(self, x: Tensor, order: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """The shares (B, H, T, T) by which `forward` mixes the values."""
        qk, _ = self.project(x, slice(x.size(1)))
        hashed = self.hash(qk)
        own = torch.eye(x.size(1), dtype=torch.bool, device=x.device)
        return shares(qk, normalised(qk), looks(hashed, hashed, torch.ones_like(own).tril(-1), self.chunk), own)


def rotation(seed: int, number: int, *shape: int) -> Tensor:
    """Of one round, the same however many rounds there are."""
    if torch.get_default_device().type == "meta":  # only sizes are wanted
        return torch.empty(shape)
    rng = torch.Generator("cpu").manual_seed(seed * 1_000_003 + number)
    return torch.randn(shape, generator=rng, device="cpu")


def normalised(qk: Tensor) -> Tensor:
    """Keys: their products with queries then do not depend on how long they are."""
    return F.rms_norm(qk, qk.shape[-1:], eps=1e-6)


def in_order(buckets: Tensor) -> Tensor:
    """(B, H, R, T) int32 in each round bucket * T + place of all tokens, sorted."""
    length = buckets.size(-1)
    return (buckets * length + torch.arange(length, device=buckets.device)).int().sort(-1).values


def chunked(qk: Tensor, values: Tensor, order: Tensor, chunk: int) -> Tensor:
    """What tokens get from those they look at: qk and values (B, H, T, D/H), order (B, H, R, T) -> (B, H, T, D/H)."""
    length, size = qk.shape[2:]
    chunk = min(chunk, length)
    padded = F.pad(order, (0, -length % chunk), value=-1)
    padded = padded.view(*padded.shape[:3], -1, chunk)  # (B, H, R, N, C)
    q, v = rows(torch.cat([qk, values], -1), padded % length).chunk(2, -1)  # (B, H, R, N, C, D/H)
    energy = (q @ with_one_back(normalised(q)).mT).float() / math.sqrt(size)  # (B, H, R, N, C, 2C)
    bucket = padded.div(length, rounding_mode="floor")[..., None]  # -1 behind the last token
    seen = bucket == with_one_back(bucket, before=-2).mT
    query, key = torch.arange(chunk, 2 * chunk, device=qk.device)[:, None], torch.arange(2 * chunk, device=qk.device)
    seen &= (key < query) & (key >= query - chunk)
    energy = energy.masked_fill(~seen, -math.inf).masked_fill(key == query, SELF)
    total = energy.logsumexp(-1, keepdim=True)  # (B, H, R, N, C, 1)
    mixed = energy.softmax(-1).to(v.dtype) @ with_one_back(v)  # (B, H, R, N, C, D/H)
    at = torch.arange(length, device=qk.device).expand(order.shape)
    where = torch.empty_like(at).scatter_(-1, (order % length).long(), at)  # (B, H, R, T) in `order`
    mixed, total = (rows(t.flatten(3, 4), where) for t in (mixed, total))
    return (total.softmax(2).to(v.dtype) * mixed).sum(2)


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of tables (..., S, E) by their numbers, index (..., *) -> (..., *, E)."""
    many = table.shape[:-2]
    first = torch.arange(many.numel(), device=table.device).view(*many, *[1] * (index.dim() - len(many)))
    chosen = table.flatten(0, -2).index_select(0, (first * table.size(-2) + index).flatten())
    return chosen.view(*index.shape, -1)


def with_one_back(chunks: Tensor, before: int = 0) -> Tensor:
    """(..., N, C, E) -> (..., N, 2C, E): behind the chunk before it each, the first behind one filled with `before`."""
    return torch.cat([F.pad(chunks, (0, 0, 0, 0, 1, 0), value=before)[..., :-1, :, :], chunks], -2)


def looks(ours: Tensor, theirs: Tensor, before: Tensor, chunk: int) -> Tensor:
    """In how many rounds queries look at keys, (B, H, T, S): by our buckets (B, H, R, T) and theirs (B, H, R, S).

    `before` (T, S) is True where a key stands before the query.
    """
    same = (ours[..., None] == theirs[..., None, :]) & before  # (B, H, R, T, S)
    newest = same.flip(-1).cumsum(-1).flip(-1) <= chunk
    return (same & newest).sum(2)


def shares(queries: Tensor, keys: Tensor, counts: Tensor, own: Tensor) -> Tensor:
    """The softmax (B, H, T, S) over what queries look at, each as often as `counts` says; `own` (T, S) is True at
    each query's own place."""
    energy = (queries @ keys.mT).float() / math.sqrt(keys.size(-1)) + counts.log()
    return energy.masked_fill(own, SELF).softmax(-1)
