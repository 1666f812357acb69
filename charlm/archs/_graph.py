"""One token at a time on a GPU: a step is recorded as a CUDA graph (`charlm.recording`).

Its state lives in tensors that keep their place and their shape. `tests/test_archs.py` holds it to `features`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charlm.archs._window import Window, WindowStepper
from charlm.model import LanguageModel, State, leaves, map_state
from charlm.recording import Recorded


class CarriedStepper:
    """For a model whose state keeps its shapes: the recurrent ones."""

    @torch.inference_mode()
    def __init__(self, model: LanguageModel, rows: int) -> None:
        device = next(model.parameters()).device
        self.model = model  # whose weights the graph reads
        self.token = torch.zeros(rows, dtype=torch.long, device=device)
        self.state = map_state(torch.clone, model.start(rows))

        def work() -> Tensor:
            logits, state = model.step(self.token, self.state)
            self.begin(state)
            return logits

        self.recorded = Recorded(work, device)

    @torch.inference_mode()
    def begin(self, state: State) -> None:
        for to, value in zip(leaves(self.state), leaves(state), strict=True):
            to.copy_(value)

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        self.token.copy_(token)
        return self.recorded().clone()


class GraphStepper(WindowStepper):
    """For a transformer: the cache has room for a whole window, and the device knows how much of it is filled."""

    @torch.inference_mode()
    def __init__(self, model: Any, rows: int) -> None:
        super().__init__(model, rows)
        device = model.embed.weight.device
        self.token = torch.zeros(rows, dtype=torch.long, device=device)
        self.before = torch.zeros(rows, model.ngram - 1, dtype=torch.long, device=device)

        def work() -> Tensor:
            token, position = self.token[:, None], self.cache.position
            hidden = model.through(model.embedded(token, self.before), position, self.cache.slots()).hidden
            self.before.copy_(torch.cat([self.before, token], 1)[:, 1:])
            position += 1
            logits: Tensor = model.head(hidden[:, 0])
            return logits

        self.recorded = Recorded(work, device)

    @torch.inference_mode()
    def begin(self, state: Window) -> None:
        super().begin(state)
        self.before.copy_(self.model.newest(state.tokens))

    def logits(self, token: Tensor) -> Tensor:
        self.token.copy_(token)
        return self.recorded().clone()
