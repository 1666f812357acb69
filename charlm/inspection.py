"""What a network shows of its inside, which `charlm.inside` looks at. A network may leave any of it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor

from charlm.errors import SettingsError


class Part(NamedTuple):
    """What can be switched off in a network, to see what it is worth. Parts may hold others: a layer its heads."""

    place: str  # "layer 2", "layer 2 attention"
    name: str  # in that place: "whole", "head 3", "unit 17"
    off: Callable[[], AbstractContextManager[None]]
    """In this context what the part says is zero to all that read it; afterwards every weight is as it was."""


class Inspectable:
    """Raises `SettingsError` for what a network does not show, and for a text that its window cannot hold."""

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:  # noqa: ARG002
        """Each layer's vectors (B, T, D) for `tokens` (B, T), by the layer's name, as the head would read them.

        Those of the embedding come first, where they fit the head; those of the network's own guesses come last. A
        `source` (B, S) is read before. Raises `SettingsError` for a model that does not show them, and for a text that
        its window cannot hold.
        """
        raise SettingsError(
            f"{type(self).__name__} does not show what each of its layers says: its file has no method hidden_states"
        )

    def mixed(self, layers: Sequence[Tensor]) -> Tensor:
        """All layers' vectors (..., D) as one: their mean, or a mix that was learnt."""
        return torch.stack(list(layers)).mean(0)

    def parts(self) -> list[Part]:
        """What can be switched off, layer after layer. Raises `SettingsError` for a model that does not say."""
        raise SettingsError(f"{type(self).__name__} does not say what it consists of: its file has no method parts")

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Where each of `tokens` (T,) looks to guess the next one: (L, H, T, S), rows sum to 1.

        The columns are `source` (S,); without one, the rows are the last of the tokens and the columns the first.
        Raises `SettingsError` for a model without attention, and for a text that its window cannot hold.
        """
        raise SettingsError(
            f"{type(self).__name__} has no attention: what it knows of the text before is in its state; "
            "charlm neurons looks into that"
        )

    def traces(self, tokens: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Gates, cells and hidden vectors by name, (L, T, D) each, after each of `tokens` (T,), T >= 1.

        Raises `SettingsError` for a model that has none.
        """
        remembers = "it remembers the tokens of its window; charlm attend shows where it looks"
        raise SettingsError(
            f"{type(self).__name__} has no gates and cells: "
            + (remembers if getattr(self, "window", None) else "its file has no method traces")
        )

    def routing(self, tokens: Tensor) -> Mapping[int, Tensor]:  # noqa: ARG002
        """The shares that a router gives its experts, by layer (from 1): (B, T) -> (B, T, N) each, rows sum to 1.

        Raises `SettingsError` for a model without experts.
        """
        raise SettingsError(
            "this run has no experts to choose from; train one with: charlm train FILE --arch transformer --experts 8"
        )
