"""Encoder and decoder LSTMs joined by attention.

Bahdanau, Cho & Bengio 2014, arXiv:1409.0473 (section 3, the additive score), and Luong, Pham & Manning 2015,
arXiv:1508.04025 (section 3.1, the dot and general scores and the attentional hidden state). With d_t the decoder's
state at step t and h_s the encoder's at source position s:

    e_ts = score(d_t, h_s)        dot: d.h    general: d.W h    additive: v.tanh(W d + U h)
    a_ts = softmax of e_ts over the source
    c_t  = sum over s of a_ts h_s
    out  = tanh(W_c [c_t; d_t])

As in Luong et al., the decoder's state does not depend on the context c_t, so all steps of a training window are
computed at once; Bahdanau et al. feed c_t back into the decoder.

On plain text the model continues what it has read: half a window goes to the encoder, the decoder writes the other
half, and then what was written becomes the next source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from charlm.archs import _traces
from charlm.archs._window import EncoderDecoder
from charlm.config import Arg, DataSpec, Settings
from charlm.errors import SettingsError
from charlm.model import PAD


class Memory(NamedTuple):
    source: Tensor  # (B, S, D) encoder outputs
    mask: Tensor  # (B, S) True where the source has a token
    h: Tensor  # (B, L, D) decoder state
    c: Tensor  # (B, L, D)
    written: Tensor  # (B, P) what the decoder was fed since the source was read


class Attention(nn.Module):
    """Context vectors for decoder states over encoder outputs."""

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(size, size, bias=False) if kind in ("general", "additive") else nn.Identity()
        self.key = nn.Linear(size, size, bias=False) if kind == "additive" else nn.Identity()
        self.score = nn.Linear(size, 1, bias=False) if kind == "additive" else None

    def weights(self, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Attention (B, T, S) of decoder states (B, T, D); 0 on padding, and a row sums to 1 if it has a source."""
        query, key = self.query(x), self.key(source)
        if self.score is None:
            energy: Tensor = query @ key.mT  # (B, T, S)
        else:
            pairs = torch.tanh(query[:, :, None] + key[:, None])  # (B, T, S, D)
            energy = self.score(pairs).squeeze(-1)  # (B, T, S)
        there = mask[:, None]  # (B, 1, S)
        return energy.masked_fill(~there, torch.finfo(energy.dtype).min).softmax(-1) * there

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        return self.weights(x, source, mask) @ source  # (B, T, D)


class Seq2Seq(EncoderDecoder):
    """The decoder begins in the encoder's last state."""

    recipe = {"seq_len": 128, "lr": 4e-3}

    @dataclass(frozen=True)
    class Config(Settings):
        layers: Annotated[int, Arg("LSTM layers in encoder and decoder each", min=1, max=64)] = 1
        hidden_size: Annotated[int, Arg("units per layer", min=1, max=65536)] = 256
        attention: Annotated[
            Literal["additive", "dot", "general", "none"], Arg("how decoder and source are compared")
        ] = "general"
        dropout: Annotated[float, Arg("on the output and between layers", min=0, max=0.95)] = 0.2

    config: Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size, between = config.hidden_size, config.dropout if config.layers > 1 else 0.0
        self.embed = nn.Embedding(spec.vocab_size, size)
        self.encoder = nn.LSTM(size, size, config.layers, dropout=between, batch_first=True)
        self.decoder = nn.LSTM(size, size, config.layers, dropout=between, batch_first=True)
        self.attention = Attention(config.attention, size) if config.attention != "none" else None
        self.mix = nn.Linear(2 * size, size) if self.attention else None
        self.head = nn.Linear(size, spec.vocab_size)

    def read(self, source: Tensor) -> Memory:
        """Encode `source` (B, S), right-padded with PAD; of a text longer than half a window, its newest part."""
        source = source[:, -(self.spec.seq_len // 2) :]
        mask = source != PAD
        x = self.embed(source.clamp(min=0))  # (B, S, D)
        if source.size(1) == 0:
            blank = x.new_zeros(len(source), self.config.layers, self.config.hidden_size)
            return Memory(x, mask, blank, blank, source)
        if mask.all():
            outputs, (h, c) = self.encoder(x)
        else:  # packed, so that the final state is that of the last real token
            packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
            outputs, (h, c) = self.encoder(packed)
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.size(1))
        return Memory(outputs, mask, h.transpose(0, 1), c.transpose(0, 1), source[:, :0])

    def write(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        x, (h, c) = self.decode(tokens, state)
        if self.attention is not None and self.mix is not None:
            context = self.attention(x, state.source, state.mask)
            x = torch.tanh(self.mix(torch.cat([context, x], -1)))
        written = torch.cat([state.written, tokens], 1)
        state = state._replace(h=h.transpose(0, 1), c=c.transpose(0, 1), written=written)
        return F.dropout(x, self.config.dropout, self.training), state

    def decode(self, tokens: Tensor, state: Memory) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The decoder's states (B, T, D) before it looks at the source, and its last h and c, (L, B, D) each."""
        start = (state.h.transpose(0, 1).contiguous(), state.c.transpose(0, 1).contiguous())
        x, last = self.decoder(self.embed(tokens), start)
        return x, last

    def attention_weights(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """The alignment of Bahdanau et al., section 5.2.1. Without a source it reads half of the tokens."""
        if self.attention is None:
            raise SettingsError(
                "this run has --attention none: its decoder gets the encoder's last state and never looks back; "
                "charlm neurons looks into that"
            )
        source, tokens = self.halves(tokens, source)
        memory = self.read(source)
        x, _ = self.decode(tokens, memory)
        return self.attention.weights(x, memory.source, memory.mask)[None]  # (1, 1, T, S)

    def traces(self, tokens: Tensor) -> dict[str, Tensor]:
        """Those of the decoder; its state begins anew where `features` makes what was written the next source."""
        state, found = self.blank(tokens[None]), []
        for piece in torch.split(tokens, self.room(state)):
            start = {"hidden": state.h[0], "cell": state.c[0]}
            found.append(_traces.trace(_traces.lstm, self.decoder.all_weights, self.embed(piece), start))
            state = self.read(piece[None])
        return {name: torch.cat([traces[name] for traces in found], 1) for name in found[0]}
