"""Encoder and decoder joined by attention.

Sutskever, Vinyals & Le 2014, arXiv:1409.3215 (section 2, without attention); Bahdanau, Cho & Bengio 2014,
arXiv:1409.0473 (section 3, the additive score and the encoder that reads both ways; appendix A.2.2, the start state);
Luong, Pham & Manning 2015, arXiv:1508.04025 (section 3.1, the dot and general scores and the attentional vector;
section 3.3, input feeding); `--copy` is in `_copy.py`. The encoder reads x_1 .. x_S:

    f_s, g_s = forwards(x_1 .. x_s), backwards(x_S .. x_s)
    h_s = [f_s; g_s], the annotation of x_s
    d_0 = tanh(W [f_S; g_1] + b), where the decoder starts; so in each layer, and for an LSTM's cells too

If it reads one way, h_s = f_s and d_0 = f_S, as Sutskever et al. have it. At each step t the decoder is fed y_t:

    d_t = decoder(y_t, d_{t-1}), with input feeding decoder([y_t; o_{t-1}], d_{t-1}) and o_0 = 0
    e_tt' = score(d_t, h_t'): dot d.(f + g), general d.W h, additive v.tanh(W d + U h)
    alpha_tt' = softmax of e_tt' over t', the source
    c_t = sum over t' of alpha_tt' h_t'
    o_t = tanh(W [c_t; d_t] + b), the attentional vector; without attention d_t
    g_t = sigmoid(w [c_t; d_t; y_t] + b), with `--copy`: 1 - g_t is copied by alpha

For a dot both vectors must be of one size: d.(f + g) is [d; d].h, which needs no weights. Without input feeding d_t
does not depend on o_{t-1}, so all steps of a target are computed at once; Bahdanau et al. feed c_t back instead.

On plain text the model continues what it has read: half a window goes to the encoder, the decoder writes the other
half, and then what was written becomes the next source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs import _traces
from charlm.archs._copy import Copy, CopyHead
from charlm.archs._inside import block_parts, fused_parts
from charlm.archs._layers import layers_first, run, run_padded
from charlm.archs._window import SlidingEncoderDecoder
from charlm.config import Arg, DataSpec, Settings
from charlm.errors import SettingsError
from charlm.inspection import Part
from charlm.model import PAD, Features, Head, Init, State, init_unigram, leaves, map_state

CELLS = {"lstm": (nn.LSTM, _traces.lstm), "gru": (nn.GRU, _traces.gru)}
PIECE = 1 << 20  # numbers that additive attention compares at once; more would not stay in a CPU's cache


class Source(NamedTuple):
    """What attention looks at. An annotation has E numbers: D for each direction."""

    annotations: Tensor  # (B, S, E)
    keys: Tensor  # (B, S, D) what a decoder's state is compared with, computed once
    mask: Tensor  # (B, S) True where the source has a token


class Memory(NamedTuple):
    source: Source | None  # None if nothing looks back at it
    decoder: State  # h (B, L, D); of an LSTM (h, c)
    copies: Tensor | None  # (B, S) the ids that copying writes, with `--copy`
    fed: Tensor | None  # (B, 1, D) the newest attentional vector, for input feeding
    tokens: Tensor  # (B, P) what the decoder was fed since the source was read


class Decoded(NamedTuple):
    """What the decoder does with T tokens."""

    inputs: Tensor  # (B, T, I) y_t, and what input feeding adds
    hidden: Tensor  # (B, T, D) d_t
    attentional: Tensor  # (B, T, D) o_t
    context: Tensor  # (B, T, E) c_t, and
    weights: Tensor  # (B, T, S) alpha_tt'; both without a column if there is no attention


class SourceAttention(nn.Module):
    """Context vectors for decoder states over annotations."""

    def __init__(self, kind: str, size: int, directions: int) -> None:
        super().__init__()
        self.directions = directions
        self.key = nn.Linear(directions * size, size, bias=False) if kind != "dot" else None
        self.query = nn.Linear(size, size, bias=False) if kind == "additive" else None
        self.score = nn.Linear(size, 1, bias=False) if kind == "additive" else None

    def prepare(self, annotations: Tensor, mask: Tensor) -> Source:
        """What of a source is the same for every decoder state."""
        ways = annotations.chunk(self.directions, -1)  # (B, S, D) each
        return Source(annotations, torch.stack(ways).sum(0) if self.key is None else self.key(annotations), mask)

    def weights(self, hidden: Tensor, source: Source) -> Tensor:
        """Attention (B, T, S) of decoder states (B, T, D); 0 on padding, and a row sums to 1 if it has a source."""
        if self.query is None or self.score is None:
            energy = hidden @ source.keys.mT  # (B, T, S)
        else:
            pieces = self.query(hidden).split(max(1, PIECE // source.keys.numel()), 1)
            keys = source.keys[:, None]  # (B, 1, S, D)
            energy = torch.cat([self.score((piece[:, :, None] + keys).tanh()) for piece in pieces], 1).squeeze(-1)
        mask = source.mask[:, None]  # (B, 1, S)
        return energy.masked_fill(~mask, torch.finfo(energy.dtype).min).softmax(-1, dtype=torch.float) * mask

    def forward(self, hidden: Tensor, source: Source) -> tuple[Tensor, Tensor]:
        """Context vectors (B, T, E), and the weights."""
        weights = self.weights(hidden, source)
        return weights.to(source.annotations.dtype) @ source.annotations, weights


class Seq2Seq(SlidingEncoderDecoder):
    recipes = {
        "text": {"seq_len": 128, "lr": 4e-3, "bidirectional": False},
        "text on cuda": {"hidden_size": 512, "lr": 2e-3},
        "long on cuda": {"dropout": 0.4},
        "pairs": {
            "bidirectional": True,
            "tokenizer": "bpe",
            "lr": 3e-3,
            "warmup": 0.1,
            "dropout": 0.3,
            "input_dropout": 0.2,
            "label_smoothing": 0.1,
        },
        "pairs on cuda": {"hidden_size": 512, "lr": 2e-3},
    }

    @dataclass(frozen=True)
    class Config(Settings):
        layers: Annotated[int, Arg("recurrent layers in encoder and decoder each", min=1, max=64)] = 1
        hidden_size: Annotated[int, Arg("units per layer, and per direction", min=1, max=65536)] = 256
        embedding_size: Annotated[
            int | None, Arg("numbers per embedded token [default: the hidden size]", min=1, max=65536)
        ] = None
        cell: Annotated[Literal["lstm", "gru"], Arg("what the layers are made of")] = "lstm"
        attention: Annotated[
            Literal["additive", "dot", "general", "none"], Arg("how decoder and source are compared")
        ] = "general"
        bidirectional: Annotated[bool, Arg("let the encoder read both ways")] = True
        input_feeding: Annotated[bool, Arg("feed the decoder what attention gave it a step before; slower")] = False
        copy: Copy = False
        dropout: Annotated[float, Arg("on the output and between layers", min=0, max=0.95)] = 0.2
        input_dropout: Annotated[float, Arg("on the embedded tokens", min=0, max=0.95)] = 0.0
        init: Init = "unigram"

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.copy and self.attention == "none":
                raise SettingsError(
                    "--copy copies where attention looks, so not with --attention none; give additive, dot or general",
                    field="copy",
                )

    config: Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, embedding_size = config.hidden_size, config.embedding_size or config.hidden_size
        directions = 1 + config.bidirectional
        kind, self.equations = CELLS[config.cell]
        between = config.dropout if config.layers > 1 else 0.0
        shape = {"num_layers": config.layers, "dropout": between, "batch_first": True}
        self.embed = nn.Embedding(spec.input_size, embedding_size)
        self.source_embed = nn.Embedding(spec.source_vocab_size, embedding_size) if spec.source_vocab_size else None
        self.encoder = kind(embedding_size, size, bidirectional=config.bidirectional, **shape)
        self.bridge = nn.Sequential(nn.Linear(2 * size, size), nn.Tanh()) if config.bidirectional else nn.Identity()
        self.decoder = kind(embedding_size + size * config.input_feeding, size, **shape)
        attends = config.attention != "none"
        self.attention = SourceAttention(config.attention, size, directions) if attends else None
        self.mix = nn.Linear((directions + 1) * size, size) if attends else None
        guess = Head(size, spec)
        if config.init == "unigram":
            init_unigram(guess, spec)
        seen = (directions + 1) * size + self.decoder.input_size
        self.head = CopyHead(guess, seen, spec) if config.copy else guess

    def read(self, source: Tensor) -> Memory:
        """Encode `source` (B, S), padded on the right with PAD; of a row longer than half a window, its newest part."""
        if source.size(1) == 0:  # a place without a token, so that the encoder has something to run over
            source = F.pad(source, (0, 1), value=PAD)
        source = self.newest(source)
        mask = source != PAD  # (B, S)
        annotations, decoder = self.encode(source.clamp(min=0), mask)
        return Memory(
            source=self.attention.prepare(annotations, mask) if self.attention else None,
            decoder=decoder,
            copies=self.head.copies(source) if isinstance(self.head, CopyHead) else None,
            fed=annotations.new_zeros(len(source), 1, self.config.hidden_size) if self.config.input_feeding else None,
            tokens=source[:, :0],
        )

    def encode(self, source: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        """Annotations (B, S, E) and the decoder's state before its first step."""
        x = self.embedded(source, self.source_embed or self.embed)
        annotations, last = run_padded(self.encoder, x, mask)

        def bridged(part: Tensor) -> Tensor:
            start: Tensor = self.bridge(part)  # from zero where nothing was read
            return start.to(part.dtype)

        return annotations, map_state(bridged, last)

    def embedded(self, tokens: Tensor, embed: nn.Embedding) -> Tensor:
        return F.dropout(embed(tokens), self.config.input_dropout, self.training)

    def advance(self, tokens: Tensor, state: Memory) -> Features:
        steps, state = self.decode(tokens, state)
        return Features(self.for_head(steps, state), state)

    def decode(self, tokens: Tensor, state: Memory) -> tuple[Decoded, Memory]:
        """All steps at once; with input feeding one after the other."""
        parts = []
        for piece in torch.split(tokens, 1, 1) if self.config.input_feeding else [tokens]:
            inputs = self.embedded(piece, self.embed)
            if state.fed is not None:
                inputs = torch.cat([inputs, state.fed], -1)
            hidden, decoder = run(self.decoder, inputs, state.decoder)
            step = Decoded(inputs, hidden, *self.attend(hidden, state.source))
            parts.append(step)
            fed = step.attentional if self.config.input_feeding else None
            state = state._replace(decoder=decoder, fed=fed)
        steps = Decoded(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))
        return steps, state._replace(tokens=torch.cat([state.tokens, tokens], 1))

    def attend(self, hidden: Tensor, source: Source | None) -> tuple[Tensor, Tensor, Tensor]:
        """o_t, c_t and alpha_t for the decoder's d_t, (B, T, D)."""
        if self.attention is None or self.mix is None:
            return hidden, hidden[..., :0], hidden[..., :0]
        context, weights = self.attention(hidden, source)
        return torch.tanh(self.mix(torch.cat([context, hidden], -1))), context, weights

    def for_head(self, steps: Decoded, state: Memory) -> Tensor:
        """What the head reads of these steps."""
        x = F.dropout(steps.attentional, self.config.dropout, self.training)
        if isinstance(self.head, CopyHead) and state.copies is not None:
            seen = torch.cat([steps.context, steps.hidden, steps.inputs], -1)
            x = self.head.wide(x, steps.weights, state.copies, seen)
        return x

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """The alignment of Bahdanau et al., section 5.2.1. Without a source it reads half of the tokens."""
        if self.attention is None:
            raise SettingsError(
                "this run has --attention none: its decoder gets the encoder's last state and never looks back; "
                "charlm neurons looks into that"
            )
        source, tokens = self.halves(tokens, source)
        steps, _ = self.decode(tokens, self.read(source))
        return steps.weights[None]  # (1, 1, T, S)

    def hidden_states(self, tokens: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        """Of the decoder: the attentional vector that each of its layers would make, if it were the last."""
        memory = self.opened(tokens, source)
        steps, _ = self.decode(tokens, memory)
        start = dict(zip(("hidden", "cell"), map(layers_first, leaves(memory.decoder)), strict=False))
        layers = _traces.trace(self.equations, self.decoder.all_weights, steps.inputs, start)["hidden"]  # (L, B, T, D)
        each = [Decoded(steps.inputs, hidden, *self.attend(hidden, memory.source)) for hidden in layers]
        return {f"decoder {n}": self.for_head(steps, memory) for n, steps in enumerate(each, 1)}

    def parts(self) -> list[Part]:
        """The decoder's layers and units; what it gets of the source at each step, at its start, and both."""
        attention = {} if self.attention is None else {"attention": self.attention}
        layers = (f"decoder {n + 1}" for n in range(self.config.layers))
        return [*block_parts("source", {**attention, "bridge": self.bridge}), *fused_parts(layers, self.decoder)]

    def traces(self, tokens: Tensor) -> dict[str, Tensor]:
        """Those of the decoder; its state begins anew where `features` makes what was written the next source."""
        state, pieces = self.start(1), list[dict[str, Tensor]]()
        for piece in torch.split(tokens[None], self.capacity, 1):
            state = self.slide(state.tokens) if pieces else state
            start = dict(zip(("hidden", "cell"), [part[0] for part in leaves(state.decoder)], strict=False))
            steps, state = self.decode(piece, state)
            pieces.append(_traces.trace(self.equations, self.decoder.all_weights, steps.inputs[0], start))
        return {name: torch.cat([traces[name] for traces in pieces], 1) for name in pieces[0]}
