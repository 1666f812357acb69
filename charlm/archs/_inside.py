"""What looking inside needs of a network's modules: hooks that listen, and hooks that switch off a part.

Switching off heads is Michel, Levy & Neubig 2019, arXiv:1905.10650, section 2.2: what a head says is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from charlm.errors import SettingsError
from charlm.inspection import Part
from charlm.model import map_state


def refuse_source(network: nn.Module, source: Tensor | None) -> None:
    """Raise `SettingsError` if a source is given, to look inside, to a network that reads none."""
    if source is not None:
        name = type(network).__name__
        raise SettingsError(f"a {name} looks back at the text itself and reads no other; leave --source out")


def refuse_longer(tokens: Tensor, window: int) -> None:
    """Raise `SettingsError` for a text (..., T) that a window does not hold at once, to look inside."""
    if tokens.size(-1) > window:
        raise SettingsError(
            f"the text has {tokens.size(-1)} tokens and the window of this run holds {window}; give a shorter one"
        )


WHOLE = "whole"
ALL = slice(None)

Off = Callable[[], AbstractContextManager[None]]


def layer_vectors(blocks: Iterable[nn.Module], run: Callable[[], object]) -> list[Tensor]:
    """What the first of these blocks gets, and what each says, when `run` calls them once, one after the other.

    Of several things that a block gets or says, the first.
    """
    vectors: list[Tensor] = []

    def listen(_: nn.Module, given: tuple[Any, ...], said: Any) -> None:
        vectors.extend([] if vectors else given[:1])
        vectors.append(said[0] if isinstance(said, tuple) else said)

    with ExitStack() as hooks:
        for block in dict.fromkeys(blocks):  # the same one may stand in several layers
            hooks.enter_context(hooked(block.register_forward_hook, listen))
        run()
    return vectors


def named_layers(vectors: Iterable[Tensor], stack: str = "layer") -> dict[str, Tensor]:
    """Those of the embedding, where they have the layers' size and so fit the head, and of each layer, by name."""
    embedded, *layers = vectors
    first = {"embedding": embedded} if embedded.size(-1) == layers[-1].size(-1) else {}
    return first | {f"{stack} {n}": x for n, x in enumerate(layers, 1)}


@contextmanager
def hooked(register: Callable[[Any], Any], hook: Callable[..., Any]) -> Iterator[None]:
    """A hook, for a while."""
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def all_off(parts: Iterable[Off]) -> Iterator[None]:
    with ExitStack() as stack:
        for off in parts:
            stack.enter_context(off())
        yield


def silent(module: nn.Module) -> AbstractContextManager[None]:
    """What the module says is zero."""
    return hooked(module.register_forward_hook, lambda _, __, said: map_state(torch.zeros_like, said))


def without_inputs(module: nn.Module, columns: slice) -> AbstractContextManager[None]:
    """The module gets zero in these places of its vectors (..., D)."""
    return hooked(module.register_forward_pre_hook, lambda _, given: (blanked(given[0], columns), *given[1:]))


def without_outputs(module: nn.Module, columns: slice) -> AbstractContextManager[None]:
    """The first of the things that the module says has zeros in these places of its vectors (..., D)."""
    return hooked(module.register_forward_hook, lambda _, __, said: (blanked(said[0], columns), *said[1:]))


def blanked(x: Tensor, columns: slice) -> Tensor:
    """x (..., D) with zeros in these places."""
    x = x.clone()
    x[..., columns] = 0
    return x


def stack_parts(stack: str, blocks: Iterable[Any]) -> list[Part]:
    """Of all blocks of a stack, which name their `sublayers`. One that stands in several layers is off in all."""
    layers: dict[Any, list[int]] = {}
    for n, block in enumerate(blocks, 1):
        layers.setdefault(block, []).append(n)
    parts = []
    for block, numbers in layers.items():
        place = f"{stack} {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")
        parts += block_parts(place, block.sublayers())
    return parts


def block_parts(place: str, sublayers: Mapping[str, nn.Module]) -> list[Part]:
    """Of a block whose sublayers add to a residual stream: the whole, each sublayer, and each head of those that have
    `heads` and mix these in a linear layer `out`.

    A block is switched off with all of its sublayers: the residual stream goes on past it.
    """
    parts = [Part(place, WHOLE, partial(all_off, [partial(silent, module) for module in sublayers.values()]))]
    for name, module in sublayers.items():
        parts.append(Part(f"{place} {name}", WHOLE, partial(silent, module)))
        heads: Any = getattr(module, "heads", 0)
        for head in range(heads):
            out: Any = module.out
            size = out.in_features // heads
            off = partial(without_inputs, out, slice(head * size, (head + 1) * size))
            parts.append(Part(f"{place} {name}", f"head {head + 1}", off))
    return parts


def layer_parts(place: str, off: Callable[[slice], AbstractContextManager[None]], units: int) -> list[Part]:
    """Of a recurrent layer: the whole, and each unit. `off` blanks these places of its hidden vectors."""
    single = [Part(place, f"unit {unit + 1}", partial(off, slice(unit, unit + 1))) for unit in range(units)]
    return [Part(place, WHOLE, partial(off, ALL)), *single]


@contextmanager
def without_units(rnn: nn.RNNBase, layer: int, units: slice) -> Iterator[None]:
    """Nothing reads these units of a layer: not its next step, not the layer above, not what the last layer says.

    A fused layer has no place for a hook between two steps, so the weights that read the units are zero for a while.
    """
    last = layer == rnn.num_layers - 1
    names = [f"weight_hh_l{layer}"] + ([] if last else [f"weight_ih_l{layer + 1}"])
    readers = [getattr(rnn, name).detach() for name in names]
    kept = [reader.clone() for reader in readers]
    try:
        for reader in readers:
            reader[:, units] = 0
        with without_outputs(rnn, units) if last else nullcontext():
            yield
    finally:
        for reader, weights in zip(readers, kept, strict=True):
            reader.copy_(weights)


def fused_parts(names: Iterable[str], rnn: nn.RNNBase) -> list[Part]:
    """Of PyTorch's fused recurrent layers, with the names of their places."""
    layers = [layer_parts(place, partial(without_units, rnn, n), rnn.hidden_size) for n, place in enumerate(names)]
    return [part for parts in layers for part in parts]
