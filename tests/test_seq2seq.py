"""The encoder, the decoder and what joins them, against the equations of their papers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from charlm.archs._layers import run_padded
from charlm.archs.seq2seq import Seq2Seq, SourceAttention
from charlm.config import DataSpec, Lengths, take
from charlm.errors import SettingsError
from charlm.model import PAD, State, leaves, map_state
from charlm.objectives._base import summed_nats
from charlm.objectives.pairs import shown

SPEC = DataSpec(11, Lengths.of_text(16))
TWO = DataSpec(11, Lengths.of_text(16), source_vocab_size=23)
SMALL = {"layers": 2, "hidden_size": 6, "dropout": 0.0}
SCORES = ["additive", "dot", "general"]
KINDS = [
    {},
    {"attention": "additive", "input_feeding": True},
    {"attention": "dot", "cell": "gru", "embedding_size": 5},
    {"attention": "dot", "cell": "gru", "input_feeding": True, "layers": 1},
    {"attention": "none", "bidirectional": False},
    {"attention": "none", "input_feeding": True, "embedding_size": 5},
    {"attention": "additive", "bidirectional": False, "layers": 1},
    {"attention": "general", "cell": "gru", "bidirectional": False, "input_feeding": True},
]
every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=["-".join(map(str, kind.values())) or "as-is" for kind in KINDS]
)


def build(spec: DataSpec = SPEC, **changes: Any) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(take(Seq2Seq.Config, {**SMALL, **changes}), spec).eval()


def tokens(batch: int, length: int, seed: int = 0, vocab_size: int = SPEC.vocab_size) -> Tensor:
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(lengths: list[int], seed: int = 0) -> Tensor:
    """Random rows of these lengths (B, S)."""
    table = tokens(len(lengths), max(lengths), seed)
    return table.where(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None], PAD)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-4)


def score(kind: str, attention: SourceAttention, d: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """How a decoder's state d (D,) is compared with an annotation [f; g]; g is empty if the encoder reads one way."""
    h = torch.cat([f, g])
    if kind == "dot":
        return d @ f + d[: len(g)] @ g
    if kind == "general":
        return d @ attention.key.weight @ h
    return attention.score.weight[0] @ torch.tanh(attention.query.weight @ d + attention.key.weight @ h)


def cell(kind: str, weights: list[Tensor], x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of one layer; a GRU's c is not looked at."""
    w, u, b_w, b_u = weights
    if kind == "gru":
        (r, z, n), (r_h, z_h, n_h) = (w @ x + b_w).chunk(3), (u @ h + b_u).chunk(3)
        z = torch.sigmoid(z + z_h)
        return (1 - z) * torch.tanh(n + torch.sigmoid(r + r_h) * n_h) + z * h, c
    i, f, g, o = (w @ x + b_w + u @ h + b_u).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def by_the_papers(model: Seq2Seq, source: Tensor, target: Tensor) -> Tensor:
    """Logits (T, V) of one source (S,) and one target (T,), one number after the other."""
    c, zero = model.config, torch.zeros(model.config.hidden_size)
    x, start = [(model.source_embed or model.embed).weight[id] for id in source], []
    for layer in range(c.layers):
        ways, last = [], []
        for way in range(1 + c.bidirectional):
            weights = model.encoder.all_weights[(1 + c.bidirectional) * layer + way]
            now, seen = (zero, zero), []
            for x_s in reversed(x) if way else x:
                now = cell(c.cell, weights, x_s, *now)
                seen.append(now[0])
            ways.append(seen[::-1] if way else seen)
            last.append(now)
        x = [torch.cat(both) for both in zip(*ways, strict=True)]
        start.append(tuple(model.bridge(torch.cat(parts)) for parts in zip(*last, strict=True)))
    logits, state, found = [], start, zero
    for id in target:
        below = torch.cat([model.embed.weight[id], found]) if c.input_feeding else model.embed.weight[id]
        for layer, weights in enumerate(model.decoder.all_weights):
            state[layer] = cell(c.cell, weights, below, *state[layer])
            below = state[layer][0]
        found = below
        if c.attention != "none":
            energies = [score(c.attention, model.attention, below, h[: len(zero)], h[len(zero) :]) for h in x]
            total = sum(e.exp() for e in energies)
            context = sum(e.exp() / total * h for e, h in zip(energies, x, strict=True))
            found = torch.tanh(model.mix.weight @ torch.cat([context, below]) + model.mix.bias)
        logits.append(model.head.weight @ found + model.head.bias)
    return torch.stack(logits)


@every_kind
@torch.no_grad()
def test_every_kind_is_what_the_papers_say(kind: dict[str, Any]) -> None:
    model, source, target = build(TWO, **kind), tokens(3, 7, vocab_size=23), tokens(3, 6, seed=1)
    together = model(target, source=source).logits
    for row in range(3):
        close(together[row], by_the_papers(model, source[row], target[row]))


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("directions", [1, 2])
@torch.no_grad()
def test_attention_is_the_papers_over_the_tokens_that_are_there(kind: str, directions: int) -> None:
    torch.manual_seed(0)
    attention = SourceAttention(kind, 6, directions)
    d, annotations, lengths = torch.randn(3, 4, 6), torch.randn(3, 5, 6 * directions), [5, 3, 1]
    source = attention.prepare(annotations, torch.arange(5) < torch.tensor(lengths)[:, None])
    contexts, weights = attention(d, source)
    for b, t in itertools.product(range(3), range(4)):
        h = annotations[b, : lengths[b]]
        energies = [math.exp(float(score(kind, attention, d[b, t], h_s[:6], h_s[6:]))) for h_s in h]
        alphas = [e / sum(energies) for e in energies]
        close(weights[b, t], torch.tensor(alphas + [0.0] * (5 - lengths[b])))
        close(contexts[b, t], sum(alpha * h_s for alpha, h_s in zip(alphas, h, strict=True)))


@torch.no_grad()
def test_additive_attention_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, d, mask = SourceAttention("additive", 6, 2), torch.randn(2, 9, 6), torch.ones(2, 5, dtype=torch.bool)
    source = attention.prepare(torch.randn(2, 5, 12), mask)
    whole = attention.weights(d, source)
    for piece in (1, 2 * 5 * 6 * 4):
        monkeypatch.setattr("charlm.archs.seq2seq.PIECE", piece)
        close(attention.weights(d, source), whole)


@pytest.mark.parametrize("kind", SCORES)
@torch.no_grad()
def test_weights_sum_to_one_on_tokens_and_are_nothing_on_padding(kind: str) -> None:
    for input_feeding in (False, True):
        model = build(attention=kind, input_feeding=input_feeding)
        weights = model.attention_weights(tokens(1, 5)[0], padded([4, 8])[0])
        assert weights.shape == (1, 1, 5, 8)
        close(weights.sum(-1), torch.ones(1, 1, 5))
        assert (weights[..., :4] > 0).all()
        assert (weights[..., 4:] == 0).all()


@every_kind
@torch.no_grad()
def test_a_pair_costs_the_same_in_any_batch_order_and_padding(kind: dict[str, Any]) -> None:
    model, sources, targets = build(**kind), padded([3, 7, 1, 5]), padded([6, 2, 8, 4], seed=1)

    def cost(source: Tensor, target: Tensor) -> Tensor:
        batch = shown((source, target))
        return summed_nats(model(batch.tokens, source=batch.source).logits, batch.targets)

    alone = [cost(s[s != PAD][None], t[t != PAD][None]) for s, t in zip(sources, targets, strict=True)]
    order, more = [2, 0, 3, 1], torch.full((4, 2), PAD)
    for one, row in zip(alone, range(4), strict=True):
        close(cost(sources[row : row + 1], targets[row : row + 1]), one)
    close(cost(sources, targets), sum(alone))
    close(cost(sources[order], targets[order]), sum(alone))
    close(cost(torch.cat([sources, more], 1), torch.cat([targets, more[:, :1]], 1)), sum(alone))
    close(cost(torch.cat([sources, more.repeat(1, 9)], 1), targets), sum(alone))  # wider than what can be read


@every_kind
@torch.no_grad()
def test_the_decoder_starts_from_what_the_encoder_knew_at_the_last_real_tokens(kind: dict[str, Any]) -> None:
    model, lengths = build(**kind), [3, 7, 1, 5]
    source = padded(lengths)
    together = leaves(model.read(source).decoder)
    for row, length in enumerate(lengths):
        alone = leaves(model.read(source[row : row + 1, :length]).decoder)
        for a, b in zip(together, alone, strict=True):
            assert a.shape == (4, model.config.layers, 6)
            close(a[row : row + 1], b)


@every_kind
@torch.no_grad()
def test_an_empty_source_beside_others_is_a_blank_page(kind: dict[str, Any]) -> None:
    model, target = build(**kind), tokens(2, 4)
    beside = torch.stack([torch.full((5,), PAD), tokens(1, 5)[0]])
    close(model(target, source=beside).logits[:1], model(target[:1]).logits)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
def test_padded_rows_are_read_as_if_they_were_packed(kind: type, bidirectional: bool, layers: int) -> None:
    """Annotations, last states and gradients; a row without a token is packed as one, and then struck out."""
    torch.manual_seed(0)
    rnn = kind(5, 6, layers, bidirectional=bidirectional, batch_first=True)
    x, mask = torch.randn(5, 9, 5, requires_grad=True), padded([9, 4, 0, 1, 7]) != PAD

    def packed() -> tuple[Tensor, State]:
        rows = pack_padded_sequence(x, mask.sum(1).clamp(min=1), batch_first=True, enforce_sorted=False)
        hidden, last = rnn(rows)
        begun = mask[:, :1, None]  # whether a row has a token
        last = map_state(lambda part: part.transpose(0, 1).reshape(5, layers, -1) * begun, last)
        return pad_packed_sequence(hidden, batch_first=True)[0] * begun, last

    results = []
    for hidden, last in (run_padded(rnn, x, mask), packed()):
        x.grad = None
        rnn.zero_grad()
        sum(t.sin().sum() for t in (hidden, *leaves(last))).backward()
        results.append([hidden, *leaves(last), x.grad, *(p.grad.clone() for p in rnn.parameters())])
    torch.testing.assert_close(*results)


@torch.no_grad()
def test_of_a_source_that_is_too_long_the_newest_part_of_each_row_is_read() -> None:
    model, source, target = build(), padded([12, 9, 3]), tokens(3, 4)
    together = model(target, source=source).logits
    close(together[0], model(target[:1], source=source[:1, 4:]).logits[0])
    close(together[1], model(target[1:2], source=source[1:2, 1:9]).logits[0])
    close(together[2], model(target[2:], source=source[2:, :3]).logits[0])


@every_kind
@torch.no_grad()
def test_text_in_pieces_and_in_steps_means_the_same_as_at_once(kind: dict[str, Any]) -> None:
    """The streaming law, far past the window; the source is padded."""
    model, text, source = build(**kind), tokens(2, 21), padded([3, 7])
    whole = model.features(text, model.read(source)).hidden
    state, parts = model.read(source), []
    for piece in torch.tensor_split(text, [1, 2, 9, 16], dim=1):
        hidden, state, _ = model.features(piece, state)
        parts.append(hidden)
    close(torch.cat(parts, 1), whole)
    assert all(len(leaf) == 2 for leaf in leaves(state))
    step = model.stepper(2)
    step.begin(model.read(source))
    for t, token in enumerate(text.unbind(1)):
        close(step(token), model.head(whole[:, t]))


def test_without_a_source_vocabulary_one_table_serves_both() -> None:
    model = build()
    assert [name for name, _ in model.named_parameters() if "embed" in name] == ["embed.weight"]


def test_a_source_vocabulary_of_its_own_has_a_table_of_its_own() -> None:
    model = build(TWO)
    assert (model.source_embed.num_embeddings, model.embed.num_embeddings) == (23, 11)
    source = torch.tensor([[22, 17, 4]])
    model(tokens(1, 4), source=source).logits.logsumexp(-1).sum().backward()
    read = model.source_embed.weight.grad.abs().sum(1).nonzero().flatten()
    assert read.tolist() == [4, 17, 22]
    assert model.embed.weight.grad.abs().sum() > 0
    assert model.attention_weights(tokens(1, 4)[0], source[0]).shape == (1, 1, 4, 3)


def test_a_model_of_two_vocabularies_cannot_read_what_it_wrote() -> None:
    model, source = build(TWO), tokens(1, 6, vocab_size=23)
    with pytest.raises(SettingsError, match="writes at most 8 tokens to a source: it reads another vocabulary"):
        model.features(tokens(1, 9), model.read(source))


@every_kind
@torch.no_grad()
def test_what_can_be_seen_inside_is_what_the_model_computes(kind: dict[str, Any]) -> None:
    """The decoder's traces over several windows, and where it looked at each step."""
    model, text, source, states, looked = build(**kind), tokens(1, 21), tokens(1, 6, seed=1), [], []
    decoding = model.decoder.register_forward_hook(lambda *call: states.append(call[-1][0][0]))
    model.features(text, model.start(1))
    decoding.remove()
    traces = model.traces(text[0])
    close(traces["hidden"][-1], torch.cat(states))
    assert ("cell" in traces) == (model.config.cell == "lstm")
    if model.attention is None:
        with pytest.raises(SettingsError, match="--attention none"):
            model.attention_weights(text[0])
        return
    looking = model.attention.register_forward_hook(lambda m, given, _: looked.append(m.weights(*given)))
    model(text[:, :8], source=source)
    looking.remove()
    close(model.attention_weights(text[0, :8], source[0])[0], torch.cat(looked, 1))


def test_only_a_decoder_with_attention_looks_back_at_its_source() -> None:
    for kind in (*SCORES, "none"):
        model = build(attention=kind)
        state = model.read(tokens(1, 6))
        assert (state.source is None) == (kind == "none")
