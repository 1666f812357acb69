"""Work on a GPU that is launched as one: hundreds of small kernels are recorded once, as a CUDA graph.

A graph always computes on the same memory, so what it reads and changes lives in tensors that keep their place and
their shape. On a CPU the same work is called as it is, so that all of it can be tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Recorded:
    """`work`, which reads and writes tensors at fixed addresses; called like it.

    On CUDA the first `warm_up` calls are made as they are, on a stream of their own: in them libraries choose their
    kernels, and memory is taken that stays. The next call records, which computes nothing, and it and all later ones
    replay. What `work` returns is then the graph's memory: it holds until any graph of the same `pool` is replayed.
    Work that cannot be recorded, such as some that waits for the device, is called as it is from then on, after
    `give_up` was called with the cause.
    """

    def __init__(
        self,
        work: Callable[[], Tensor],
        device: torch.device,
        *,
        warm_up: int = 1,
        pool: Any = None,
        give_up: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.work: Callable[[], Tensor] | None = work
        self.device, self.warm_up, self.pool, self.give_up = device, warm_up, pool, give_up
        self.recordable = device.type == "cuda"
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> Tensor:
        if self.recordable and not self.warm_up and self.graph is None:
            self.record()
        if self.graph is not None:
            self.graph.replay()
            return self.result
        assert self.work is not None
        if not self.recordable:
            return self.work()
        self.warm_up -= 1
        return self.aside(self.work)

    def record(self) -> None:
        assert self.work is not None
        graph, random = torch.cuda.CUDAGraph(), torch.cuda.default_generators[self.device.index or 0]
        seed = random.initial_seed()
        try:
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                self.result = self.work()
        except RuntimeError as error:
            # The random generator would go on as if it were being recorded: it gets another state, and the seed again.
            random.graphsafe_set_state(torch.Generator(self.device).graphsafe_get_state())
            random.manual_seed(seed)
            self.recordable = False
            self.give_up(str(error).partition("\n")[0])
        else:
            self.graph, self.work = graph, None  # with its owner the work would be a reference cycle

    def aside(self, work: Callable[[], Tensor]) -> Tensor:
        """What `work` returns, computed on a stream of its own, as it has to be before it is recorded."""
        stream, current = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = work()
        current.wait_stream(stream)
        return result
