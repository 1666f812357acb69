"""What networks can do, as interfaces: an architecture implements one of them, and nothing else knows more of it.

Shapes: B batch, T tokens fed, S source, P past, W window, V vocabulary, D width, E embedding, H heads, L layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.config import PAD as PAD  # so that an architecture finds it, and what handles states, by the interfaces
from charlm.config import Arg, DataSpec, Settings
from charlm.inspection import Inspectable
from charlm.states import State as State
from charlm.states import detach as detach
from charlm.states import leaves as leaves
from charlm.states import map_state as map_state
from charlm.states import repeated as repeated
from charlm.stepping import PlainStepper as PlainStepper
from charlm.stepping import RowStepper as RowStepper
from charlm.stepping import SeparateRows
from charlm.stepping import Stepper as Stepper

Init = Annotated[Literal["unigram", "published"], Arg("a fresh model guesses by token frequency, or by chance")]

READ = 1024  # tokens taken at once when a long text is only read, so that memory stays bounded


class Features(NamedTuple):
    hidden: Tensor  # (B, T, D) one vector per input token
    state: State  # what to pass in next time
    penalty: Tensor | None = None  # () nats per token to be minimised too; None where there is nothing, as in scoring


class Output(NamedTuple):
    logits: Tensor  # (B, T, V) unnormalised log-probabilities of the next token
    state: State
    penalty: Tensor | None = None  # as in `Features`


class Network(nn.Module, Inspectable, ABC):
    """What can be trained: built from its settings and from what is known of the data."""

    Config: ClassVar[type[Settings]]
    objective: ClassVar[str]  # what it is trained for on a running text, where nothing else is asked for
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that suit it, for each kind of data; `long` is added to those for a text where the budget is LONG
    minutes or more. On CUDA `text on cuda` and the like are added, and `long on cuda` instead of `long`."""
    splits: ClassVar[bool] = False  # whether each of its layers can be computed by several devices (tensor parallel)
    compiles: ClassVar[bool] = False  # whether torch.compile was measured to make it faster
    bf16_from: float = math.inf  # hidden size from which bf16 trains it faster on a CPU; finite: on a GPU any

    def __init__(self, config: Settings, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec

    @property
    def window(self) -> int | None:
        """The most tokens that a vector can know of; None if there is no limit."""
        return self.spec.lengths.window

    def stages(self) -> Sequence[nn.Module]:
        """The parts in order, from the embedding to the head: what is spread over devices or thawed one by one.

        Together they hold all weights but those that are the network's own.
        """
        parts: list[nn.Module] = []
        for child in self.children():
            parts += child if isinstance(child, nn.ModuleList) else [child]
        return list(dict.fromkeys(parts))  # layers that share their weights are one part

    def units(self) -> Sequence[nn.Module]:
        """Those of the stages whose weights are read while they are called, and at no other time: FSDP can fetch the
        weights of each for that time alone. All others are fetched together, which is the default for all."""
        return ()


class LanguageModel(Network):
    """Reads from left to right: maps a text, and what it remembers of the text before, to a guess per position.

    The streaming law, tested for every architecture: for any state `s`, `features(a + b, s)` ends with the vectors of
    `features(b, features(a, s).state)`. A state is a value: nothing changes it, so it may be used any number of times.
    """

    objective = "causal"
    head: Callable[[Tensor], Tensor]  # (..., D) -> (..., V)

    @property
    def lead_in(self) -> int | None:
        """How many tokens take a blank page to where a slide of the window leaves off; None if it does not slide."""
        return None

    @abstractmethod
    def start(self, rows: int) -> State:
        """The state before any text, for so many rows: a blank page."""

    @abstractmethod
    def features(self, tokens: Tensor, state: State) -> Features:
        """Vectors for `tokens` (B, T), T >= 1, that continue the text remembered in `state`."""

    def forgotten(self, length: int) -> int:  # noqa: ARG002
        """How many tokens at the beginning of a text of this length leave no trace in the state after it."""
        return 0

    def reading(self, text: Tensor, at_once: int = READ) -> Iterator[State]:
        """The states after pieces of `text` (B, P), the last one after all of it: one or more."""
        state, text = self.start(len(text)), text[:, self.forgotten(text.size(1)) :]
        if not text.size(1):
            yield state
        for piece in torch.split(text, at_once, 1) if text.size(1) else ():
            state = self.features(piece, state).state
            yield state

    def read(self, text: Tensor) -> State:
        """The state after `text` (B, P)."""
        *_, state = self.reading(text)
        return state

    def carry(self, state: State) -> State:
        """What the next training segment begins with, cut from the graph, always of the same shapes. Default: `start`.

        Numbers, and no truth values: it is saved in checkpoints.
        """
        return detach(self.start(len(leaves(state)[0])))

    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """One token (B,) -> logits (B, V) and the next state: `features` with T = 1."""
        out = self.features(token[:, None], state)
        return self.head(out.hidden[:, 0]), out.state

    def stepper(self, rows: int) -> Stepper:  # noqa: ARG002
        """`step` for so many rows, overridden where it can be made faster for the weights as they are now."""
        return PlainStepper(self)

    def row_stepper(self, rows: int) -> RowStepper:
        """For at most so many rows that begin and end at different times, overridden where they can share a step."""
        return SeparateRows(self, rows)

    def forward(self, tokens: Tensor, state: State = None, source: Tensor | None = None) -> Output:
        """All that torch.compile wraps; not overridden. A `source` (B, S) is read first and replaces `state`.

        Without either the text begins with `tokens` (B, T).
        """
        if source is not None:
            state = self.read(source)
        hidden, state, penalty = self.features(tokens, self.start(len(tokens)) if state is None else state)
        return Output(self.head(hidden), state, penalty)


class EncoderDecoder(LanguageModel):
    """Reads a source, then writes with an eye on it. A blank page is a source of no tokens."""

    objective = "continuation"

    @abstractmethod
    def read(self, source: Tensor) -> State:
        """The state after `source` (B, S), padded on the right with PAD, was encoded."""

    def reading(self, text: Tensor, at_once: int = READ) -> Iterator[State]:  # noqa: ARG002
        """A source is encoded at once."""
        yield self.read(text)

    def start(self, rows: int) -> State:
        device = next(self.parameters()).device
        return self.read(torch.empty(rows, 0, dtype=torch.long, device=device))


class Encoder(Network):
    """Reads a text both ways at once: a vector says what stands before its token and what stands after it."""

    head: Callable[[Tensor], Tensor]  # (..., D) -> (..., V)
    judge: Callable[[Tensor], Tensor]
    """Vectors of whole rows (B, S, D) -> logits (B, C) of the answers in `spec.answers`. Only a network that can judge
    has it, and only where an answer is asked for."""

    @abstractmethod
    def encode(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """tokens (B, S), padded on the right with PAD, which is masked -> vectors (B, S, D).

        Of two texts in a row `segments` (B, S) say which one a token is of, 0 or 1; without them there is one. The
        vectors are the last of its `hidden_states`.
        """

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """tokens (B, S) -> logits (B, S, V). All that torch.compile wraps; not overridden."""
        return self.head(self.encode(tokens, segments))


class TwoWay(Encoder):
    """Two language models, one of which reads a text turned around: from its end to its beginning. Of their vectors,
    side by side, the first half knows its token and those before it, the second the token and those after it."""

    objective = "two-way"

    @abstractmethod
    def ways(self) -> tuple[LanguageModel, LanguageModel]:
        """What reads a text as it is, and what reads it `turned`; their weights are the network's own."""

    def encode(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return list(self.hidden_states(tokens).values())[-1]

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        (onwards, backwards), real = self.ways(), tokens != PAD
        first = onwards.hidden_states(tokens.clamp(min=0), source)
        second = backwards.hidden_states(turned(tokens, real).clamp(min=0))
        return {name: torch.cat([x, turned(second[name], real)], -1) for name, x in first.items()}  # (B, S, 2 D)


def turned(rows: Tensor, real: Tensor) -> Tensor:
    """Each row of `rows` (B, S) or (B, S, D) turned around, with what is not `real` (B, S) still at its end."""
    places = (real.sum(1, keepdim=True) - 1 - torch.arange(real.size(1), device=real.device)) % real.size(1)  # (B, S)
    return rows.gather(1, places if rows.dim() == 2 else places[..., None].expand_as(rows))


class AnyOrder(Encoder):
    """Also guesses the tokens at some places, one after the other in any order: each from those guessed before it, and
    from all at other places."""

    objective = "permute"

    @abstractmethod
    def guess(self, tokens: Tensor, places: Tensor) -> Tensor:
        """tokens (B, S), padded as for `encode`, and `places` (B, M) in the order of guessing -> vectors (B, M, D).

        None knows of the token at its own place, or of those at later ones. A place that is PAD is none.
        """

    def forward(self, tokens: Tensor, segments: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """As an encoder's or, where `places` (B, M) are given, logits (B, M, V) of the guesses there."""
        return self.head(self.encode(tokens, segments) if places is None else self.guess(tokens, places))


class TokenVectors(Network):
    """Has a vector for each token of the vocabulary, wherever that stands; it reads no text."""

    objective = "skipgram"
    embed: nn.Embedding  # (V, D)

    @abstractmethod
    def forward(self, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        """The log-odds that each of `others` (..., K) stands near its token (...): (..., K); of all tokens (..., V)."""


def joined(parts: Sequence[Features]) -> Features:
    """Those of a text, from the pieces that it was fed in."""
    if len(parts) == 1:
        return parts[0]
    some = [(part.penalty * part.hidden.size(1), part.hidden.size(1)) for part in parts if part.penalty is not None]
    mean = torch.stack([nats for nats, _ in some]).sum() / sum(length for _, length in some) if some else None
    return Features(torch.cat([part.hidden for part in parts], 1), parts[-1].state, mean)


class Head(nn.Linear):
    """Vectors (..., D) -> logits (..., V). Its weights may be the embedding's (`tie`)."""

    def __init__(self, size: int, spec: DataSpec, *, bias: bool = True) -> None:
        super().__init__(size, spec.output_size, bias)

    def tie(self, embed: nn.Embedding) -> None:
        """Share the embedding's weights (Press & Wolf 2017, arXiv:1608.05859, section 3)."""
        self.weight = embed.weight

    @property
    def output_weight(self) -> Tensor:
        """(V, D) the weights without those of symbols that can be fed but not guessed."""
        return self.weight if len(self.weight) == self.out_features else self.weight[: self.out_features]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.output_weight, self.bias)


@torch.no_grad()
def init_unigram(head: nn.Linear, spec: DataSpec) -> None:
    """Let a fresh model guess each token as often as the training text has it, so that it need not learn that first.

    The bias of `head` becomes the logarithm of the frequencies, with one added to each count. Without counts, where
    weights are to be loaded, it stays as it is.
    """
    if spec.counts is not None:
        counts = F.pad(torch.from_numpy(spec.counts), (0, spec.guessed)) + 1.0  # symbols stand in no text
        head.bias.copy_((counts / counts.sum()).log())


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers, shared ones counted once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
