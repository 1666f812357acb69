"""The one interface that every architecture implements: the text so far goes in, a guess for each next token comes out.

Shapes: B batch, T tokens fed, S source, P past, V vocabulary, D width, H heads, L layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from charlm.config import Arg, DataSpec, Settings
from charlm.errors import SettingsError

State = Any  # a tree (tuples) of tensors, batch first; only the architecture that made it looks inside

Step = Callable[[Tensor, State], tuple[Tensor, State]]  # see LanguageModel.step

PAD = -1
"""No token here: masked when read, not scored when a target."""

Start = Annotated[Literal["unigram", "published"], Arg("a fresh model guesses by token frequency, or by chance")]

READ = 1024  # tokens taken at once when a long text is only read, so that memory stays bounded


class Features(NamedTuple):
    hidden: Tensor  # (B, T, D) one vector per input token
    state: State = None  # what to pass in next time


class Output(NamedTuple):
    logits: Tensor  # (B, T, V) unnormalised log-probabilities of the next token
    state: State


class LanguageModel(nn.Module, ABC):
    """Maps a piece of text, and what it remembers of the text before, to a guess per position.

    The streaming law, tested for every architecture: for any state `s`, `features(a + b, s)` ends with the vectors of
    `features(b, features(a, s).state)`. Outside autograd a model may write into the state that it is given: a state is
    used once, and whoever forks one copies it first (`fork`).
    """

    Config: ClassVar[type[Settings]]
    objectives: ClassVar[tuple[str, ...]] = ("causal",)  # what it can be trained on, the default first
    recipe: ClassVar[Mapping[str, Any]] = {}  # settings that were measured to suit it
    pair_recipe: ClassVar[Mapping[str, Any]] = {}  # the same for pairs
    long_recipe: ClassVar[Mapping[str, Any]] = {}  # what replaces them where the budget is LONG minutes or more
    compiles: ClassVar[bool] = False  # whether torch.compile was measured to make it faster
    bf16_from: ClassVar[float] = math.inf  # hidden size from which bf16 trains it faster on a CPU; on a GPU any, if one
    head: Callable[[Tensor], Tensor]  # (..., D) -> (..., V)

    def __init__(self, config: Settings, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec

    @property
    def window(self) -> int | None:
        """The most tokens a guess can look back on; None if the state remembers without a limit."""
        return self.spec.seq_len

    @abstractmethod
    def features(self, tokens: Tensor, state: State = None) -> Features:
        """Vectors for `tokens` (B, T), T of any size, that continue the text remembered in `state`."""

    def read(self, source: Tensor) -> State:
        """What the model remembers of `source` (B, S). Encoders override this."""
        state = None
        for piece in torch.split(source, READ, 1):
            state = self.features(piece, state).state
        return state

    def carry(self, state: State) -> State:  # noqa: ARG002
        """What survives into the next training segment, cut from the graph. Default: nothing."""
        return None

    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """One token (B,) -> logits (B, V) and the next state: `features` with T = 1."""
        out = self.features(token[:, None], state)
        return self.head(out.hidden[:, 0]), out.state

    def stepper(self, batch_size: int) -> Step:  # noqa: ARG002
        """`step` for as many rows, overridden where it can be made faster for the weights as they are now."""
        return self.step

    def forward(self, tokens: Tensor, state: State = None, source: Tensor | None = None) -> Output:
        """All that torch.compile wraps; not overridden. A `source` (B, S) is read first and replaces `state`."""
        if source is not None:
            state = self.read(source)
        hidden, state = self.features(tokens, state)
        return Output(self.head(hidden), state)

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
            + (remembers if self.window else "its file has no method traces")
        )


def map_state(change: Callable[[Tensor], Tensor], state: State) -> State:
    """The same tree with `change` applied to each tensor."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, tuple):
        parts = [map_state(change, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def leaves(state: State) -> list[Tensor]:
    """The tree's tensors, in order."""
    found: list[Tensor] = []
    map_state(lambda t: found.append(t) or t, state)  # type: ignore[func-returns-value]
    return found


def detach(state: State) -> State:
    """The same values, cut from the autograd graph."""
    return map_state(Tensor.detach, state)


def fork(state: State, batch_size: int) -> State:
    """A copy of a state of one row, repeated for `batch_size` rows."""
    return map_state(lambda x: x.repeat_interleave(batch_size, 0), state)


def tie(head: nn.Linear, embed: nn.Embedding) -> None:
    """Let the head use the embedding's weights (Press & Wolf 2017, arXiv:1608.05859, section 3)."""
    assert head.weight.shape == embed.weight.shape
    head.weight = embed.weight


@torch.no_grad()
def start_at_unigram(head: nn.Linear, spec: DataSpec) -> None:
    """Let a fresh model guess each token as often as the training text has it, so that it need not learn that first.

    The bias of `head` becomes the logarithm of the frequencies, with one added to each count. Without counts, where
    weights are to be loaded, it stays as it is.
    """
    if spec.counts is not None:
        counts = torch.from_numpy(spec.counts) + 1.0
        head.bias.copy_((counts / counts.sum()).log())


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers, shared ones counted once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
