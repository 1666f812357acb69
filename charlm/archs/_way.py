"""One way of reading, of a network that reads both: LSTM layers as a language model of their own.

Each layer after the first adds its input to its output (He et al. 2016, arXiv:1512.03385, section 3.2), which its
dropout has been through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from charlm.archs._inside import named_layers, refuse_source
from charlm.archs._layers import dropout, run
from charlm.model import Features, LanguageModel, Network, State, detach, map_state


class Way(LanguageModel):
    """A view of a network, whose modules it has and of which it is no part. State: (h, c), each (B, L, D)."""

    config: Any

    def __init__(
        self, network: Network, embed: nn.Module, layers: Iterable[nn.LSTM], head: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(network.config, network.spec)
        self.embed, self.layers, self.head = embed, nn.ModuleList(layers), head
        self.training = network.training

    @property
    def window(self) -> None:
        return None

    def start(self, rows: int) -> State:
        zeros = next(self.parameters()).new_zeros(rows, self.config.layers, self.config.hidden_size)  # (B, L, D)
        return zeros, zeros

    def features(self, tokens: Tensor, state: State) -> Features:
        vectors, state = self.through(tokens, state)
        return Features(vectors[-1], state)

    def through(self, tokens: Tensor, state: State) -> tuple[list[Tensor], State]:
        """The embedded tokens (B, T, D) and what each layer makes of them, the last as the head reads it; the next
        state."""
        x, last = self.embed(tokens), []
        vectors = [x]
        for number, layer in enumerate(self.layers):
            x = dropout(x, self.config.dropout, self.training)
            start = tuple(part[:, number : number + 1] for part in state)
            hidden, now = run(layer, x, start)  # type: ignore[arg-type]
            x = x + hidden if number else hidden
            vectors.append(x)
            last.append(now)
        vectors[-1] = dropout(x, self.config.dropout, self.training)
        return vectors, tuple(torch.cat(part, 1) for part in zip(*last, strict=True))

    def carry(self, state: State) -> State:
        return map_state(Tensor.float, detach(state))  # whatever precision the next segment has

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        refuse_source(self, source)
        return named_layers(self.through(tokens, self.start(len(tokens)))[0])
