"""One token at a time on a GPU: a step is recorded as a CUDA graph (`charlm.recording`), by itself or with others.

Its state lives in tensors that keep their place and their shape. `tests/test_archs.py` holds it to `features`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import proxy

import torch
from torch import Tensor

from charlm.archs._window import Window, cache_for
from charlm.model import PAD, LanguageModel, State, leaves, map_state
from charlm.recording import Recorded


class FixedStepper(ABC):
    """A `Stepper` on tensors that keep their place and their shape.

    What the host decides is apart from what the device computes (`compute`), so that several steps, with the choice of
    a token after each, can be recorded as one graph (`charlm.sampling.unrolled`).
    """

    def __init__(self, model: Any, rows: int) -> None:
        self.model = model  # whose weights the graph reads
        self.device = model.embed.weight.device
        self.token = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.room: float = math.inf  # steps that fit before the window slides
        self.one_step = self.recorded(lambda step: step.compute(step.token))
        self.unrolled: Any = None  # kept by whoever records several steps

    def recorded(self, work: Callable[[Any], Tensor], *, warm_up: int = 1) -> Recorded:
        """`work` on this stepper. It does not keep the stepper alive: a cycle would hold much memory of the GPU."""
        return Recorded(partial(work, proxy(self)), self.device, warm_up=warm_up)

    @abstractmethod
    def begin(self, state: State) -> None:
        """Go on from `state`, which stays as it is."""

    @abstractmethod
    def compute(self, token: Tensor) -> Tensor:
        """A step, (B,) -> logits (B, V), on the device alone: nothing depends on what the host does not know."""

    def make_room(self) -> None:
        """Slide where there is no room for a step."""
        assert self.room, "only a model with a window runs out of room"

    @torch.inference_mode()
    def __call__(self, token: Tensor) -> Tensor:
        self.make_room()
        self.token.copy_(token)
        self.room -= 1
        return self.one_step().clone()


class CarriedStepper(FixedStepper):
    """For a model whose state keeps its shapes: the recurrent ones."""

    @torch.inference_mode()
    def __init__(self, model: LanguageModel, rows: int) -> None:
        super().__init__(model, rows)
        self.state = map_state(torch.clone, model.start(rows))

    @torch.inference_mode()
    def begin(self, state: State) -> None:
        for to, value in zip(leaves(self.state), leaves(state), strict=True):
            to.copy_(value)

    def compute(self, token: Tensor) -> Tensor:
        logits: Tensor
        logits, state = self.model.step(token, self.state)
        self.begin(state)
        return logits


class WindowStepper(FixedStepper):
    """For a model with a window: there is room for all its tokens, and the device knows how many there are."""

    def __init__(self, model: Any, rows: int, *, before: int = 0, fixed_slide: bool = True) -> None:
        """`before` is how many places before the window a step reads: they hold PAD. With `fixed_slide` the model
        slides without waiting for the device, so that this is recorded too."""
        super().__init__(model, rows)
        self.size, self.cache = model.capacity, cache_for(model, rows)
        self.padded = self.token.new_full((rows, before + self.size), PAD)
        self.text = self.padded[:, before:]  # (B, W)
        self.fixed_slide = self.recorded(lambda step: step.slide()) if fixed_slide else None

    @torch.inference_mode()
    def begin(self, state: Any) -> None:
        self.load(state)
        self.room = self.size - state.tokens.size(1)

    def load(self, state: Any) -> None:
        """What the device does of `begin`."""
        held = state.tokens.size(1)
        self.text[:, :held] = state.tokens
        self.cache.position.fill_(held)

    def slide(self) -> Tensor:
        """Let the device hold the newer half alone, and return how much that is, (1,)."""
        self.load(self.model.slide(self.text))
        return self.cache.position

    def make_room(self) -> None:
        if not self.room:
            (self.fixed_slide or self.slide)()
            self.room = self.size - self.size // 2


class GraphStepper(WindowStepper):
    """For a transformer, whose keys and values are a KV cache."""

    @torch.inference_mode()
    def __init__(self, model: Any, rows: int) -> None:
        fixed = all(block.pattern is None and block.experts is None for block in model.blocks)
        super().__init__(model, rows, before=model.ngram - 1, fixed_slide=fixed)
        self.earlier = torch.arange(model.ngram - 1, device=self.device)

    def load(self, state: Window) -> None:
        super().load(state)
        self.cache.load(state.layers)

    def compute(self, token: Tensor) -> Tensor:
        model, position = self.model, self.cache.position
        self.text.index_copy_(1, position, token[:, None])
        before = self.padded.index_select(1, self.earlier + position)  # (B, N - 1)
        hidden = model.through(model.embedded(token[:, None], before), position, self.cache.slots()).hidden
        position += 1
        logits: Tensor = model.head(hidden[:, 0])
        return logits
