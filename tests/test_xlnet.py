"""XLNet's two streams, held to another implementation with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from charlm.archs._relative import both_ways, both_ways_table, distance_table
from charlm.archs.xlnet import XLNet
from charlm.config import DataSpec, Lengths
from charlm.model import PAD
from charlm.objectives._base import Batch
from charlm.objectives.permute import Permute
from charlm.plan import Plan

SPEC = DataSpec(19, Lengths.of_text(14))
ROWS, SIZE, COUNT = 3, 13, 7


def build(**settings: object) -> Any:
    torch.manual_seed(0)
    plan = Plan.of({"arch": "xlnet", "hidden_size": 32, "heads": 4, "layers": 3, **settings})
    network = plan.build(SPEC).double().eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return network


@torch.no_grad()
def theirs(ours: XLNet) -> Any:
    """`XLNetLMHeadModel` with the same weights, in fp64; its sinusoids stay those of fp32, as ours do."""
    transformers = pytest.importorskip("transformers")
    c = ours.config
    config = transformers.XLNetConfig(
        vocab_size=SPEC.vocab_size,
        d_model=c.hidden_size,
        n_layer=c.layers,
        n_head=c.heads,
        d_inner=4 * c.hidden_size,
        ff_activation="gelu_new",  # the tanh form, as in the authors' code
        use_mems_eval=False,
    )
    model = transformers.XLNetLMHeadModel(config).double().eval()
    body = model.transformer
    places = body.relative_positional_encoding
    body.relative_positional_encoding = lambda *given, **named: places(*given, **named).double()
    body.word_embedding.weight.copy_(ours.embed.weight)
    body.mask_emb.copy_(ours.blank)
    model.lm_loss.bias.copy_(ours.head.bias)
    for block, layer in zip(ours.blocks, body.layer, strict=True):
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
    return model


def texts(seed: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, S) of rows of several lengths, and where there are some."""
    tokens = torch.randint(SPEC.vocab_size, (ROWS, SIZE), generator=torch.Generator().manual_seed(seed))
    return tokens, torch.arange(SIZE) < torch.tensor([[13], [11], [10]])


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_guesses_in_a_random_order_and_their_loss_are_those_of_transformers(seed: int) -> None:
    """What may look where is written out for it as `perm_mask`: nobody at what is guessed at the same time or later."""
    ours = build()
    other, (text, real) = theirs(ours), texts(seed)
    rng = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.randperm(10, generator=rng)[:COUNT] for _ in range(ROWS)])
    hidden = torch.zeros(ROWS, SIZE, SIZE, dtype=torch.float64)
    for row, order in enumerate(places.tolist()):
        for i in range(SIZE):
            done = order.index(i) if i in order else 0
            hidden[row, i, order[done:]] = 1
    mapping = torch.nn.functional.one_hot(places, SIZE).double()
    targets = text.gather(1, places)
    said = other(text, attention_mask=real.double(), perm_mask=hidden, target_mapping=mapping, labels=targets)
    tokens = text.masked_fill(~real, PAD)
    close(ours(tokens, places=places), said.logits)
    nats = Permute().loss(ours, Batch(tokens, targets, places=places), ()).nats
    close(nats.double() / (ROWS * COUNT), said.loss)


@torch.no_grad()
def test_as_an_encoder_it_is_their_content_stream_without_a_mask() -> None:
    ours = build()
    body, (text, real) = theirs(ours).transformer, texts(9)
    close(ours.encode(text), body(text).last_hidden_state)
    padded = ours.encode(text.masked_fill(~real, PAD))
    close(padded[real], body(text, attention_mask=real.double()).last_hidden_state[real])
    vectors = ours.hidden_states(text)
    for ours_, theirs_ in zip(vectors.values(), body(text, output_hidden_states=True).hidden_states, strict=True):
        close(ours_, theirs_)
    weights = body(text[:1], output_attentions=True).attentions
    close(ours.attention_weights(text[0]), torch.cat(weights))


@torch.no_grad()
def test_it_has_as_many_parameters_as_theirs_but_for_segments() -> None:
    ours = build()
    segments = sum(p.numel() for name, p in theirs(ours).named_parameters() if name.endswith(("seg_embed", "r_s_bias")))
    count = sum(p.numel() for p in ours.parameters())
    assert count == sum(p.numel() for p in theirs(ours).parameters()) - segments


def test_scores_by_distance_stand_under_their_keys() -> None:
    """Each written out: of the query at p and the key at j the score of the distance p - j."""
    scores, size = torch.randn(2, 3, 5, 10), 5
    places = torch.tensor([[4, 0, 2, 2, 1], [3, 3, 0, 1, 4]])
    for where in (None, places):
        stood = torch.arange(size).expand(2, -1) if where is None else where
        shifted = both_ways(scores, where)
        for row in range(2):
            for t, p in enumerate(stood[row].tolist()):
                for j in range(size):
                    assert torch.equal(shifted[row, :, t, j], scores[row, :, t, size - (p - j)])
    assert both_ways(torch.randn(1, 1, 1, 2)).shape == (1, 1, 1, 1)


def test_distances_to_what_is_ahead_are_those_behind_with_the_sines_turned() -> None:
    table = both_ways_table(6, 8)  # from 6 down to -5
    torch.testing.assert_close(table[:7], distance_table(6, 8, 6))
    torch.testing.assert_close(table[7:], table[1:6].flip(0) * torch.tensor([-1.0] * 4 + [1.0] * 4))


def test_a_guess_and_its_gradient_use_both_streams_and_all_weights() -> None:
    network = build()
    text, _ = texts(1)
    network.guess(text, torch.tensor([[3, 9]]).expand(ROWS, -1)).square().sum().backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {"head.bias"}


def test_the_loss_waits_for_no_number_and_its_shapes_are_fixed() -> None:
    """So that a step can be recorded: on the meta device there are none to look at, and of all rows as many tokens are
    guessed."""
    outline = Plan.of({"arch": "xlnet", "hidden_size": 32, "layers": 1}).outline(SPEC)
    rng = torch.Generator().manual_seed(0)
    shapes = set()
    for _ in range(20):
        windows = torch.randint(SPEC.vocab_size, (4, 14), generator=rng)
        windows[3, 5:] = PAD
        batch = Permute().batch((windows,), SPEC, rng)
        assert batch.places is not None
        shapes.add((batch.tokens.shape, batch.targets.shape, batch.places.shape))
        meta = Batch(batch.tokens.to("meta"), batch.targets.to("meta"), places=batch.places.to("meta"))
        with torch.device("meta"):
            Permute().loss(outline.train(), meta, ()).nats.backward()
    assert shapes == {((4, 13), (4, 2), (4, 2))}
