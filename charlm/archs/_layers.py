"""PyTorch's fused recurrent layers: all time steps are one call, and all layers where nothing speaks against it.

Two things do. cuDNN draws the dropout between its layers from a generator of its own, which is seeded once and which no
CUDA graph can hold. And a padded row is to be left at its last token, and entered there from behind, without packing:
that wants lengths on the host, for which a GPU would have to be waited for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from charlm.model import State, leaves, map_state

# cuDNN says so of the weights of one layer among several, which it copies: a small part of the work.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk of memory")

FUNCTIONS: Mapping[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
}
SURE = 1e4  # the sigmoid of so much is 1, and of as much below zero 0, exactly
HOLD = {"LSTM": (-SURE, SURE, 0.0, 0.0), "GRU": (0.0, SURE, 0.0)}  # added to the gates, they keep a state as it is
COLUMNS = 8  # beside an input; the first says that it is padding, and with the others a matrix's rows stay aligned


def run(rnn: nn.RNNBase, x: Tensor, state: State, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, State]:
    """Vectors (B, T, E) and a state (B, L, D) -> hidden vectors (B, T, D) and the next state, of layers one way.

    `weights` replace the module's own of these names.
    """
    state = map_state(layers_first, state)
    if x.is_cuda:
        x, state = run_in_turn(rnn, x, state, weights or {})
    else:
        x, state = functional_call(rnn, dict(weights), (x, state)) if weights else rnn(x, state)
    return x, map_state(batch_first, state)


def run_in_turn(rnn: nn.RNNBase, x: Tensor, state: State, weights: Mapping[str, Tensor]) -> tuple[Tensor, State]:
    """What the module computes of x (B, T, E) and a state (L, B, D): one layer after the other where something is
    dropped between them, else all at once."""
    used = [weights.get(name, weight) for name, weight in rnn.named_parameters()]  # four of each layer
    dropping, last = rnn.training and bool(rnn.dropout), []
    at_once = 1 if dropping else rnn.num_layers
    with own_precision(x) as precise:
        for layer in range(0, rnn.num_layers, at_once):
            x = dropout(x, rnn.dropout, dropping) if layer else x
            start = [part[layer : layer + at_once] for part in leaves(state)]
            x, *now = run_layers(rnn, *map_state(precise, (x, tuple(start), tuple(used[4 * layer :][: 4 * at_once]))))
            last.append(now)
    parts = tuple(torch.cat(part) for part in zip(*last, strict=True))
    return x, parts if isinstance(state, tuple) else parts[0]


def run_each(rnn: nn.RNNBase, x: Tensor) -> list[Tensor]:
    """What each layer, one way, makes of vectors (B, T, E) from a blank state: (B, T, D) each. Without dropout."""
    used, blank, vectors = list[Tensor](rnn.parameters()), x.new_zeros(1, len(x), rnn.hidden_size), list[Tensor]()
    start = [blank] * (2 if rnn.mode == "LSTM" else 1)
    with own_precision(x) as precise:
        for layer in range(rnn.num_layers):
            x, *_ = run_layers(rnn, *map_state(precise, (x, tuple(start), tuple(used[4 * layer :][:4]))))
            vectors.append(x)
    return vectors


def run_padded(rnn: nn.RNNBase, x: Tensor, mask: Tensor) -> tuple[Tensor, State]:
    """Rows (B, S, E) -> hidden vectors (B, S, W D) of an LSTM or GRU that reads in W directions, zero on padding, and
    the last state (B, L, W D), zero of a row without a token: what packed rows give.

    `mask` (B, S) is True on tokens; padding may follow them. It leaves a cell as it is, and what is zero, so that from
    behind a row begins with its last token.
    """
    size, ways, used = rnn.hidden_size, 1 + rnn.bidirectional, list[Tensor](rnn.parameters())  # four of each way
    padding = F.pad((~mask)[..., None].to(x.dtype), (0, COLUMNS - 1))  # (B, S, COLUMNS)
    final = (mask.sum(1) - 1).clamp(min=0)[:, None, None].expand(-1, 1, size)  # (B, 1, D)
    start = [x.new_zeros(ways, len(x), size)] * (2 if rnn.mode == "LSTM" else 1)
    last = []
    with own_precision(x) as precise:
        for layer in range(rnn.num_layers):
            x = dropout(x, rnn.dropout, rnn.training) if layer else x
            weights = used[4 * ways * layer : 4 * ways * (layer + 1)]
            weights[::4] = [holding(weight, rnn.mode) for weight in weights[::4]]
            given = torch.cat([x, padding.to(x.dtype)], -1), tuple(start), tuple(weights)
            x, h, *cells = run_layers(rnn, *map_state(precise, given))
            h = torch.cat([batch_first(x[..., :size].gather(1, final)), h[1:]])  # forwards it went on over padding
            last.append([batch_first(part).flatten(1) for part in (h, *cells)])  # (B, W D) each
    parts = tuple(torch.stack(part, 1) for part in zip(*last, strict=True))
    return x * mask[..., None], parts if len(parts) > 1 else parts[0]


def holding(weight: Tensor, mode: str) -> Tensor:
    """Weights (G D, E) of G gates for inputs with `COLUMNS`: where these say padding, the gates hold what is there."""
    columns = weight.new_zeros(len(weight), COLUMNS)
    for gate, push in zip(columns.chunk(len(HOLD[mode])), HOLD[mode], strict=True):
        gate[:, 0] = push
    return torch.cat([weight, columns], 1)


def run_layers(rnn: nn.RNNBase, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One or more layers in W directions, by four `weights` of each layer and direction: hidden vectors (B, T, W D),
    then h and perhaps cells, (L W, B, D) like `state`."""
    start, layers = state if rnn.mode == "LSTM" else state[0], len(weights) // (4 * (1 + rnn.bidirectional))
    return FUNCTIONS[rnn.mode](x, start, weights, True, layers, 0.0, rnn.training, rnn.bidirectional, True)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`F.dropout`; on a CPU with 16 random bits per number, for drawing a float took an eighth of an LSTM's step."""
    if not (training and p) or x.device.type != "cpu":
        return F.dropout(x, p, training)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    dropped = round(p * 2**16)  # of the 2**16 values that a draw may have
    kept = draws[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * kept * (2**16 / (2**16 - dropped))


@contextmanager
def own_precision(x: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
    """Gives what brings a layer's tensors to the precision of autocast. On CUDA that would itself give cuDNN's layers
    fp16, whose gradients vanish, whatever was asked for."""
    if x.is_cuda and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", enabled=False):
            yield lambda tensor: tensor.to(dtype)
    else:
        yield lambda tensor: tensor


def layers_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous()  # (B, L, D) -> (L, B, D), as PyTorch's layers want it


def batch_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1)  # (L, B, D) -> (B, L, D)
