"""One token at a time on a GPU: a step's hundred small kernels are recorded once and launched as one (a CUDA graph).

A graph always computes on the same memory, so the state lives in tensors that keep their place and their shape. On a
CPU the same work is called as it is: so `tests/test_archs.py` holds it to `features` without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from charlm.archs._attention import Past
from charlm.model import LanguageModel, State, leaves, map_state


class Recorded:
    """`work`, which reads and writes tensors that stay where they are, as a graph. It is called once before."""

    def __init__(self, work: Callable[[], Tensor], device: torch.device) -> None:
        self.replay: Callable[[], object] | None = None
        if device.type != "cuda":
            self.work = work
        else:
            aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                work()  # libraries choose their kernels and take their memory now
            torch.cuda.current_stream(device).wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.result = work()
            self.replay = graph.replay  # and not `work`, which would keep its owner and all its memory in a ring

    def __call__(self) -> Tensor:
        if self.replay is None:
            return self.work()
        self.replay()
        return self.result.clone()


class CarriedStep:
    """For a model whose state keeps its shapes and is zero before a text: the recurrent ones. The state is its own."""

    @torch.inference_mode()
    def __init__(self, model: LanguageModel, rows: int) -> None:
        device = next(model.parameters()).device
        self.model = model  # whose weights the graph reads
        self.token = torch.zeros(rows, dtype=torch.long, device=device)
        self.state = map_state(torch.zeros_like, model.step(self.token, None)[1])

        def work() -> Tensor:
            logits, state = model.step(self.token, self.state)
            self.take(state)
            return logits

        self.recorded = Recorded(work, device)

    def take(self, state: State) -> None:
        for to, value in zip(leaves(self.state), leaves(state), strict=True):
            to.copy_(value)

    @torch.inference_mode()
    def __call__(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        if state is None:
            map_state(Tensor.zero_, self.state)
        elif state is not self.state:
            self.take(state)
        self.token.copy_(token)
        return self.recorded(), self.state


class WindowStep:
    """For a transformer: keys and values have room for a whole window, and the device knows what is there."""

    @torch.inference_mode()
    def __init__(self, model: Any, rows: int) -> None:
        device = next(model.parameters()).device
        self.model, self.room, c = model, model.spec.seq_len, model.config
        self.token = torch.zeros(rows, dtype=torch.long, device=device)
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        shape = (2, rows, c.head_count, self.room, c.hidden_size // c.head_count)
        buffers = [torch.zeros(shape, dtype=model.embed.weight.dtype, device=device) for _ in range(c.layers)]
        self.layers = tuple(Past(*pair) for pair in buffers)
        self.tokens: list[Tensor] = []  # (rows,) each: what the window holds
        self.before = torch.zeros(rows, model.ngram - 1, dtype=torch.long, device=device)

        def work() -> Tensor:
            token = self.token[:, None]
            hidden, _ = model.through(model.embedded(token, self.before), self.at, self.layers)
            self.before.copy_(torch.cat([self.before, token], 1)[:, 1:])
            self.at += 1
            logits: Tensor = model.head(hidden[:, 0])
            return logits

        self.recorded = Recorded(work, device)

    def adopt(self, cache: Any) -> None:
        """Go on from the model's own cache, or from nothing."""
        known = self.token[:, None][:, :0] if cache is None else cache.tokens  # (rows, P)
        self.tokens = list(known.unbind(1))
        self.before.copy_(self.model.newest(known))
        self.at.fill_(len(self.tokens))
        for to, past in zip(leaves(self.layers), leaves(cache.layers) if self.tokens else (), strict=False):
            to[:, :, : len(self.tokens)] = past[:, :, : len(self.tokens)]

    @torch.inference_mode()
    def __call__(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        if state is not self:
            self.adopt(state)
        if len(self.tokens) == self.room:  # slide as the model does
            self.adopt(self.model.features(torch.stack(self.tokens[-(self.room // 2) :], 1)).state)
        self.tokens.append(token)
        self.token.copy_(token)
        return self.recorded(), self
