"""Experts: many feed-forward layers, of which each token gets one. So a model has more weights for as much work.

Fedus, Zoph & Shazeer 2022, arXiv:2101.03961: the router (section 2.1), capacity and the loss that balances the load
(2.2), its arithmetic (2.4), and its noise, from the paper's appendix. The router gives each token shares p of all
experts, and

    y = p_i FeedForward_i(x), with i = argmax p

In training an expert takes so many tokens of a row, the first ones; what comes too late gets zeros, and its residual
carries it on. Where a text is scored or written there is no such limit: what a token gets would depend on how the text
was cut. The paper counts tokens by device; here each row counts for itself, so no row depends on its batch. Initial
weights are those of other layers, not a tenth, and experts have no dropout of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs._blocks import BlockConfig, FeedForward

JITTER = 0.01  # the router's input is multiplied by a number from 1 - JITTER to 1 + JITTER, in training


class Dispatch(NamedTuple):
    """Which tokens each expert gets, in the order of the experts."""

    tokens: Tensor  # (S,) the token in each place; in a place that stays empty, any
    sizes: list[int]  # places of each expert, S in all
    places: Tensor  # (B T,) the place of each token; of one that no expert takes, any
    taken: Tensor | None = None  # (B T,) 1, or 0 for tokens that no expert takes; None: all are


class Router(nn.Linear):
    """The experts' shares of each token, always in fp32: which is the largest must not depend on the rounding."""

    def __init__(self, size: int, experts: int) -> None:
        super().__init__(size, experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, N), rows sum to 1"""
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):  # the meta device has none
            x = x.float()
            if self.training:
                x = x * torch.empty_like(x).uniform_(1 - JITTER, 1 + JITTER)
            return F.linear(x, self.weight.float()).softmax(-1)


class Experts(nn.Module):
    """N feed-forward layers and the router that chooses among them."""

    def __init__(self, c: BlockConfig, count: int, *, capacity_factor: float, balance: float) -> None:
        super().__init__()
        self.capacity_factor, self.balance = capacity_factor, balance
        self.router = Router(c.hidden_size, count)
        self.experts = nn.ModuleList(FeedForward(c) for _ in range(count))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> the same of what the experts say, and in training the cost of their imbalance, ()."""
        shares = self.router(x)  # (B, T, N)
        gate, chosen = shares.max(-1)  # (B, T) each
        sent = self.dispatch(chosen)
        given = torch.split(x.flatten(0, 1).index_select(0, sent.tokens), sent.sizes)
        said = torch.cat([expert(rows) for expert, rows in zip(self.experts, given, strict=True)])  # (S, D)
        y = said.index_select(0, sent.places).view_as(x)  # (B, T, D)
        gate = gate if sent.taken is None else gate * sent.taken.view_as(gate)
        return y * gate[..., None].to(y.dtype), self.imbalance(shares, chosen) if self.training else None

    def dispatch(self, chosen: Tensor) -> Dispatch:
        """Where each token goes, by its expert `chosen` (B, T).

        Neither in training nor in a step that is recorded on a GPU do shapes depend on the data.
        """
        length = chosen.size(1)
        if self.training:
            capacity = math.ceil(length * self.capacity_factor / len(self.experts))
            return limited(chosen, len(self.experts), min(capacity, length))
        if length == 1 and chosen.device.type != "cpu":
            return limited(chosen, len(self.experts), 1)  # which is room for all
        return unlimited(chosen, len(self.experts))

    def imbalance(self, shares: Tensor, chosen: Tensor) -> Tensor:
        """alpha N sum over experts of f_i P_i, mean over rows, (): f_i is the part of a row's tokens that expert i is
        chosen for, P_i its mean share. Least, alpha, where all experts get as many."""
        count = shares.size(-1)
        chosen_for = F.one_hot(chosen, count).float().mean(1)  # (B, N)
        return self.balance * count * (chosen_for * shares.mean(1)).sum(-1).mean()


def limited(chosen: Tensor, count: int, capacity: int) -> Dispatch:
    """At most `capacity` tokens of each row for an expert: the shapes depend on that alone."""
    rows, length = chosen.shape
    before = F.one_hot(chosen, count).cumsum(1).gather(2, chosen[..., None]).squeeze(-1) - 1  # (B, T) of its expert's
    taken = before < capacity
    row = torch.arange(rows, device=chosen.device)[:, None]
    size = rows * capacity
    places = (chosen * size + row * capacity + before).flatten()  # (B T,)
    places = torch.where(taken.flatten(), places, count * size)  # the others share one behind all
    tokens = places.new_zeros(count * size + 1)
    tokens = tokens.scatter(0, places, torch.arange(rows * length, device=chosen.device))[:-1]
    return Dispatch(tokens, [size] * count, places.clamp(max=count * size - 1), taken.flatten().float())


def unlimited(chosen: Tensor, count: int) -> Dispatch:
    """Every token gets the expert that is chosen."""
    chosen = chosen.flatten()
    tokens = chosen.argsort(stable=True)
    return Dispatch(tokens, chosen.bincount(minlength=count).tolist(), tokens.argsort())


def routed(routers: Mapping[int, nn.Module], run: Callable[[], object]) -> dict[int, Tensor]:
    """What each of these says, called once by `run`, (B, T, N) by its number."""
    shares: dict[int, Tensor] = {}

    def listener(number: int) -> Callable[[Any, Any, Tensor], None]:
        return lambda _router, _given, said: shares.update({number: said})

    hooks = [router.register_forward_hook(listener(number)) for number, router in routers.items()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return shares
