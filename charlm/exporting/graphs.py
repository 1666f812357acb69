"""A network as graphs of ONNX: one that reads a text, and one that goes on from there by a token.

A state is a tree of tensors; in a graph it is flat, and each tensor has the name of its place in the tree. `step` is
traced by PyTorch. Where a state keeps its shapes whatever was read, as in recurrent networks, `start` is that same
step, repeated over the text by ONNX's `Scan`: so it has no fixed length, and both are one computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charlm.archs._window import Windowed
from charlm.errors import SettingsError
from charlm.exporting.tracing import Graph, Run, Shape, repeated, traced
from charlm.model import Encoder, EncoderDecoder, Features, LanguageModel, State, leaves, map_state

SMALLEST = 8  # tokens of a window in which the examples have room


def graphs(network: Any) -> dict[str, Graph]:
    """By name: `start` and `step` of a language model, `read` and `step` of one that reads a source, `fill` of an
    encoder. Raises `SettingsError` for a network that none of these can hold."""
    if isinstance(network, Encoder) and type(network).forward is Encoder.forward:
        return {"fill": fill(network)}
    if not isinstance(network, LanguageModel):
        raise SettingsError(
            "ONNX is for networks that read a text and guess its tokens, those that follow or those that are hidden"
        )
    if isinstance(network, Windowed):
        room = min(network.capacity, network.spec.lengths.source) if reads(network) else network.capacity
        if room < SMALLEST:
            raise SettingsError(f"a window of {room} tokens is too small to be traced and checked; {SMALLEST} would do")
    with torch.no_grad():
        if isinstance(network, EncoderDecoder):
            return {"read": read(network), "step": step(network)}
        if fixed(network):
            one, blank = step(network), leaves(network.start(1))
            return {"start": repeated(one, blank, started(network), reading(network)), "step": one}
    if not isinstance(network, Windowed):
        raise SettingsError(
            "ONNX holds a state that keeps its shape, or that grows by each token; this one does neither"
        )
    return {"start": start(network), "step": step(network)}


def advance(network: LanguageModel, tokens: Tensor, state: State) -> Features:
    """`features` of tokens for which there is room: where a window slides is for the host to decide."""
    return network.advance(tokens, state) if isinstance(network, Windowed) else network.features(tokens, state)


def state_after(network: LanguageModel, rows: int, length: int) -> State:
    """That after so many tokens (and, of what reads a source, after one of a token more)."""
    tokens = torch.zeros(rows, length, dtype=torch.long)
    begun = network.read(torch.zeros(rows, length + 1, dtype=torch.long)) if reads(network) else network.start(rows)
    return advance(network, tokens, begun).state


def reads(network: Any) -> bool:
    return isinstance(network, EncoderDecoder)


def fixed(network: LanguageModel) -> bool:
    """Whether a state has the same shapes whatever was read."""
    states = network.start(2), state_after(network, 2, 1), state_after(network, 2, 2)
    blank, one, two = ([leaf.shape for leaf in leaves(state)] for state in states)
    return blank == one == two


def named(state: State, name: str) -> dict[str, Tensor]:
    """The tree's tensors by their places, such as `state.layers.0.keys`, in the order of `leaves`."""
    if isinstance(state, Tensor):
        return {name: state}
    fields = getattr(state, "_fields", range(len(state or ())))
    return {
        key: leaf
        for field, part in zip(fields, state or (), strict=True)
        for key, leaf in named(part, f"{name}.{field}").items()
    }


def shapes(network: LanguageModel) -> list[Shape]:
    """Of each of a state's tensors; what differs between two states has a name instead of a size."""
    few, many = leaves(state_after(network, 2, 3)), leaves(state_after(network, 3, 5))
    names = {(2, 3): "rows", (3, 5): "past", (4, 6): "source"}
    return [
        [a if a == b else names[a, b] for a, b in zip(x.shape, y.shape, strict=True)]
        for x, y in zip(few, many, strict=True)
    ]


def sized(state: State, name: str, shapes: Sequence[Shape]) -> dict[str, Shape]:
    """These shapes by the names of a state's tensors."""
    return dict(zip(named(state, name), shapes, strict=True))


def step(network: LanguageModel) -> Graph:
    """One token (B,) and the state -> logits (B, V) and the next state."""
    example, sizes = state_after(network, 3, 5), shapes(network)

    def run(token: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        out = advance(network, token[:, None], with_leaves(example, state))
        return network.head(out.hidden[:, 0]), *leaves(out.state)

    grown = [[f"{size} + 1" if size == "past" else size for size in shape] for shape in sizes]
    inputs: dict[str, Shape] = {"token": ["rows"], **sized(example, "state", sizes)}
    outputs: dict[str, Shape] = {"logits": ["rows", network.spec.output_size], **sized(example, "next", grown)}
    return traced(run, network, (torch.zeros(3, dtype=torch.long), *leaves(example)), inputs, outputs)


def start(network: LanguageModel) -> Graph:
    """A text (B, T) -> logits (B, T, V) of what follows each token, and the state."""
    example = (torch.zeros(3, 5, dtype=torch.long),)
    return traced(reading(network), network, example, {"tokens": ["rows", "length"]}, started(network))


def reading(network: LanguageModel) -> Run:
    """What `start` computes."""

    def run(tokens: Tensor) -> tuple[Tensor, ...]:
        out = advance(network, tokens, network.start(tokens.size(0)))
        return network.head(out.hidden), *leaves(out.state)

    return run


def started(network: LanguageModel) -> dict[str, Shape]:
    """What `start` gives."""
    read = [["length" if size == "past" else size for size in shape] for shape in shapes(network)]
    return {"logits": ["rows", "length", network.spec.output_size], **sized(network.start(1), "next", read)}


def read(network: EncoderDecoder) -> Graph:
    """A source (B, S), padded on the right with -1 -> the state in which nothing was written."""

    def run(source: Tensor) -> tuple[Tensor, ...]:
        return tuple(leaves(network.read(source)))

    nothing = [[0 if size == "past" else size for size in shape] for shape in shapes(network)]
    outputs = sized(network.start(1), "next", nothing)
    return traced(run, network, (torch.zeros(3, 6, dtype=torch.long),), {"source": ["rows", "source"]}, outputs)


def fill(network: Encoder) -> Graph:
    """A text (B, S), padded on the right with -1 -> logits (B, S, V) of what stands at each place."""
    outputs: dict[str, Shape] = {"logits": ["rows", "length", network.spec.output_size]}
    inputs: dict[str, Shape] = {"tokens": ["rows", "length"]}
    return traced(lambda tokens: (network(tokens),), network, (torch.zeros(3, 5, dtype=torch.long),), inputs, outputs)


def with_leaves(tree: State, tensors: Sequence[Tensor]) -> State:
    """The same tree with these tensors."""
    given = iter(tensors)
    return map_state(lambda _: next(given), tree)
