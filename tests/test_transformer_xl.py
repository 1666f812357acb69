"""Transformer-XL against another implementation, against the paper's sums, and the memory that it carries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.archs._relative import band, distance_table
from charlm.archs.transformer_xl import Memory
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.plan import Plan
from charlm.text.windows import Windows
from charlm.training.loop import Trainer

SPEC = DataSpec(29, Lengths.of_text(6))


def build(**settings: object) -> Any:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "layers": 3, "heads": 4, "memory": 8}
    model = Plan.of({"arch": "transformer-xl", **small, **settings}).build(SPEC).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(SPEC.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def xlnet(ours: Any, *, same_length: bool) -> Any:
    """Their model with our weights."""
    transformers = pytest.importorskip("transformers")
    c = ours.config
    config = transformers.XLNetConfig(
        vocab_size=SPEC.vocab_size,
        d_model=c.hidden_size,
        n_layer=c.layers,
        n_head=c.heads,
        d_inner=4 * c.hidden_size,
        ff_activation="relu",
        attn_type="uni",
        mem_len=c.memory,
        clamp_len=-1 if c.clamp is None else c.clamp,
        same_length=same_length,
        layer_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    theirs = transformers.XLNetLMHeadModel(config).eval()
    theirs.transformer.word_embedding.weight.copy_(ours.embed.weight)
    theirs.lm_loss.load_state_dict(ours.head.state_dict())
    for block, layer in zip(ours.blocks, theirs.transformer.layer, strict=True):
        attention, (keys, values) = block.attention, block.attention.key_value.weight.chunk(2)
        given = {"q": attention.query.weight, "k": keys, "v": values, "r": attention.distance.weight}
        for name, weight in given.items():
            getattr(layer.rel_attn, name).copy_(weight.T.unflatten(1, (c.heads, -1)))  # (D, H, D/H)
        layer.rel_attn.o.copy_(attention.out.weight.unflatten(1, (c.heads, -1)))
        layer.rel_attn.r_w_bias.copy_(attention.content[:, 0])
        layer.rel_attn.r_r_bias.copy_(attention.place[:, 0])
        layer.rel_attn.layer_norm.load_state_dict(block.norm1.state_dict())
        layer.ff.layer_1.load_state_dict(block.feed_forward.up.state_dict())
        layer.ff.layer_2.load_state_dict(block.feed_forward.out.state_dict())
        layer.ff.layer_norm.load_state_dict(block.norm3.state_dict())
    return theirs


@pytest.mark.parametrize(("memory", "clamp"), [(8, None), (15, 5), (3, None)])
@torch.no_grad()
def test_segment_by_segment_it_is_xlnet_that_reads_one_way(memory: int, clamp: int | None) -> None:
    """As in training: with a memory that is larger than a segment of 6 and with a smaller one."""
    ours = build(memory=memory, clamp=clamp)
    theirs, text = xlnet(ours, same_length=False), tokens(2, 48)
    state, mems = ours.start(2), None
    for segment in text.split(SPEC.lengths.training, 1):
        out, expected = ours(segment, state), theirs(segment, mems=mems, use_mems=True)
        close(out.logits, expected.logits)
        state, mems = ours.carry(out.state), expected.mems


@pytest.mark.parametrize("clamp", [3, 8])
@torch.no_grad()
def test_where_its_memory_is_full_it_is_xlnet_that_sees_the_same_length_everywhere(clamp: int) -> None:
    """As in writing, cut anyhow."""
    ours = build(eval_memory=8, clamp=clamp)
    theirs, text = xlnet(ours, same_length=True), tokens(2, 40)
    layers = torch.randn(3, 2, 8, 32).unbind()
    state, mems = Memory(torch.full((2,), 8.0), layers), [layer.transpose(0, 1) for layer in layers]
    for segment in text.split([6, 8, 1, 3, 8, 7, 7], 1):
        out, expected = ours(segment, state), theirs(segment, mems=mems, use_mems=True)
        close(out.logits, expected.logits)
        state, mems = out.state, expected.mems


def sums_of_the_paper(model: Any, text: Tensor, looks_back: int) -> Tensor:
    """Section 3.3 and appendix B, token by token, layer by layer, head by head: text (T,) -> vectors (T, D)."""
    c, size = model.config, model.config.hidden_size
    width, layer_norm = size // c.heads, torch.nn.functional.layer_norm
    sinusoid = lambda d: torch.tensor(  # noqa: E731
        [f(d / 10_000 ** (2 * i / size)) for f in (math.sin, math.cos) for i in range(size // 2)]
    )
    h = [model.embed.weight[id] for id in text]
    for block in model.blocks:
        a, new = block.attention, []
        w_k, w_v = a.key_value.weight.chunk(2)
        for i in range(len(h)):
            mixed = []
            for head in range(c.heads):
                part = slice(head * width, (head + 1) * width)
                q = (a.query.weight @ h[i])[part]
                energies, values = [], []
                for j in range(max(0, i - looks_back), i + 1):
                    k, r = (w_k @ h[j])[part], (a.distance.weight @ sinusoid(i - j))[part]
                    # terms (a) content, (b) place, (c) u and content, (d) v and place
                    terms = q @ k + q @ r + a.content[head, 0] @ k + a.place[head, 0] @ r
                    energies.append(terms / math.sqrt(width))
                    values.append((w_v @ h[j])[part])
                mixed.append(torch.stack(energies).softmax(0) @ torch.stack(values))
            o = layer_norm(h[i] + a.out.weight @ torch.cat(mixed), (size,), block.norm1.weight, block.norm1.bias)
            up, down = block.feed_forward.up, block.feed_forward.out
            inner = down.weight @ (up.weight @ o + up.bias).clamp(min=0) + down.bias
            new.append(layer_norm(o + inner, (size,), block.norm3.weight, block.norm3.bias))
        h = new
    return torch.stack(h)


@pytest.mark.parametrize("looks_back", [0, 1, 5, 30])
@torch.no_grad()
def test_its_vectors_are_the_sums_of_the_paper(looks_back: int) -> None:
    model, text = build(layers=2, hidden_size=12, heads=3, memory=2, eval_memory=looks_back, clamp=99), tokens(1, 17)
    expected = sums_of_the_paper(model, text[0], looks_back)
    for cuts in ([], [1, 2, 9]):
        state, parts = model.start(1), []
        for piece in torch.tensor_split(text, cuts, 1):
            vectors, state, _ = model.features(piece, state)
            parts.append(vectors)
        close(torch.cat(parts, 1)[0], expected)


LENGTHS = [{}, {"memory": 0}, {"memory": 3, "eval_memory": 0}, {"eval_memory": 20}, {"eval_memory": 2, "clamp": 0}]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("lengths", [*LENGTHS, {"norm_place": "pre", "tied": True}])
@torch.no_grad()
def test_text_in_pieces_means_the_same_with_any_memory_in_training_too(lengths: dict[str, Any], training: bool) -> None:
    model, text = build(**lengths).train(training), tokens(2, 200)
    state, parts = model.start(2), []
    for piece in torch.tensor_split(text, [1, 2, 9, 15, 16, 60, 150], 1):
        vectors, state, _ = model.features(piece, state)
        parts.append(vectors)
    close(torch.cat(parts, 1), model.features(text, model.start(2)).hidden)
    close(model.features(text[:, 150:], model.read(text[:, :150])).hidden, parts[-1])


@pytest.mark.parametrize("lengths", LENGTHS)
@torch.no_grad()
def test_a_guess_rests_on_all_tokens_of_its_window_and_on_no_other(lengths: dict[str, Any]) -> None:
    model = build(**lengths)
    text, window = tokens(1, 80), model.window
    last = model(text).logits[:, -1]
    for back, matters in ((window - 1, True), (window, False), (window + 1, False)):
        changed = text.clone()
        changed[:, -1 - back] = (changed[:, -1 - back] + 1) % SPEC.vocab_size
        assert torch.equal(model(changed).logits[:, -1], last) != matters


@torch.no_grad()
def test_before_its_beginning_a_text_has_no_memory_and_not_one_of_zeros() -> None:
    model, text = build(), tokens(2, 6)
    blank = model.features(text, model.start(2)).hidden
    full = model.carry(model.read(tokens(2, 20, seed=3)))
    close(model.features(text, full._replace(known=torch.zeros(2))).hidden, blank)
    mixed = model.features(text, full._replace(known=torch.tensor([0.0, 8.0]))).hidden  # a row that begins anew
    close(mixed[0], blank[0])
    close(mixed[1], model.features(text, full).hidden[1])
    zeros = full._replace(layers=tuple(torch.zeros_like(layer) for layer in full.layers))
    assert not torch.allclose(model.features(text, zeros).hidden, blank, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("lengths", [*LENGTHS, {"norm_place": "pre", "tied": True}])
@torch.no_grad()
def test_a_step_is_features_of_one_token_however_far_it_looks(rows: int, lengths: dict[str, Any]) -> None:
    """Also from what training carried, where some rows have just begun."""
    model, text = build(**lengths), tokens(rows, 50)
    carried = model.carry(model.read(tokens(rows, 20, seed=3)))
    states = [model.start(rows), carried._replace(known=carried.known * (torch.arange(rows) % 2)), model.read(text)]
    step = model.stepper(rows)
    for state in states:
        expected = model.head(model.features(text, state).hidden)
        step.begin(state)
        for t in range(50):
            close(step(text[:, t]), expected[:, t])


@pytest.mark.parametrize("lengths", LENGTHS)
@torch.no_grad()
def test_values_times_its_weights_are_what_its_attention_says(lengths: dict[str, Any]) -> None:
    model, heard = build(**lengths), []
    text = tokens(1, 13)[0, : model.window]
    for block in model.blocks:
        block.attention.register_forward_hook(lambda _, given, said: heard.append((given[1].values, said)))
    model.features(text[None], model.start(1))
    said = list(heard)
    weights = model.attention_weights(text)
    assert weights.shape == (3, 4, len(text), len(text))
    close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert (weights.triu(1) == 0).all()
    assert (weights.tril(-model.reach - 1) == 0).all()
    for block, layer, (values, y) in zip(model.blocks, weights, said, strict=True):
        close(block.attention.out((layer @ values[:, :, -len(text) :]).transpose(1, 2).flatten(2)), y)


def test_a_text_that_a_guess_cannot_look_back_on_is_not_shown() -> None:
    model = build(memory=0, eval_memory=4)
    with pytest.raises(SettingsError, match=r"the text has 14 tokens and a guess of this run looks back on 13; give a"):
        model.attention_weights(tokens(1, 14)[0])


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match="--hidden-size must be a multiple of --heads, got 30 and 4"):
        build(hidden_size=30)


def test_scores_by_distance_stand_under_their_keys() -> None:
    """Of the keys before a query, of itself, and of none ahead."""
    scores = torch.randn(2, 5, 4)  # of 5 queries for the distances 3, 2, 1, 0
    placed = band(scores)
    assert placed.shape == (2, 5, 8)
    for query in range(5):
        for key in range(8):
            distance = query + 3 - key
            expected = scores[:, query, 3 - distance] if 0 <= distance <= 3 else torch.full((2,), -math.inf)
            assert torch.equal(placed[:, query, key], expected)


def test_distances_beyond_the_clamp_are_taken_for_it() -> None:
    table, clamped = distance_table(9, 6, 9), distance_table(9, 6, 4)
    assert torch.equal(clamped[5:], table[5:])
    assert torch.equal(clamped[:5], table[5].expand(5, -1))
    assert table[-1].tolist() == [0, 0, 0, 1, 1, 1]


@torch.no_grad()
def test_with_published_weights_it_starts_as_published() -> None:
    model = Plan.of({"arch": "transformer-xl", "init": "published"}).build(SPEC)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.any()
        else:
            assert float(p.std()) == pytest.approx(0.02, abs=0.005)
            assert float(p.mean()) == pytest.approx(float("norm" in name), abs=0.005)


@torch.no_grad()
def nats_by_place(model: Any, ids: Tensor) -> Tensor:
    """(T,) the mean cost of a token at each place of a segment, where segments follow each other as in training."""
    length, rows = model.spec.lengths.training, 8
    row = (len(ids) - 1) // rows // length * length
    fed, targets = (part[: rows * row].view(rows, row).split(length, 1) for part in (ids[:-1], ids[1:]))
    state, costs = model.start(rows), []
    for segment, answers in zip(fed, targets, strict=True):
        out = model.eval()(segment, state)
        state = model.carry(out.state)
        costs.append(F.cross_entropy(out.logits.mT, answers, reduction="none"))
    return torch.stack(costs[3:]).mean((0, 1))  # the first ones have less before them


def learnt(data: Path, memory: int, **settings: object) -> Tensor:
    """Nats by place in a segment, after some steps on Tiny Shakespeare."""
    text = (data / "tinyshakespeare.txt").read_text()
    _, ids = np.unique(list(text), return_inverse=True)
    train, held_out = np.split(ids.astype(np.uint8), [-60_000])
    plan = Plan.of({"arch": "transformer-xl", "memory": memory, "precision": "fp32", **settings})
    spec = DataSpec(int(ids.max()) + 1, Lengths.of_text(plan.train.seq_len))
    batches = Windows(train, batch_size=16, seq_len=plan.train.seq_len, order="stream", seed=0)
    fit = Trainer.from_plan(plan, batches, spec)
    for _ in fit:
        pass
    return nats_by_place(fit.model, torch.from_numpy(held_out.astype(np.int64)))


@pytest.mark.slow
def test_a_memory_helps_and_makes_the_beginning_of_a_segment_as_good_as_its_end(data: Path) -> None:
    small = {"hidden_size": 64, "layers": 2, "seq_len": 32, "steps": 700, "lr": 5e-3}
    without, with_memory = (learnt(data, memory, **small) for memory in (0, 32))
    assert with_memory.mean() < without.mean() - 0.02
    assert without[:4].mean() > without[-16:].mean() + 0.2
    assert float(with_memory[:4].mean()) == pytest.approx(float(with_memory[-16:].mean()), abs=0.06)
