"""The Reformer against that of `transformers`, the sums of the paper, and its own stream kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pairwise import pairwise
from torch import Tensor, nn

from charlm.archs._lsh import chunked, in_order, looks, normalised, shares
from charlm.archs._reversible import dropped
from charlm.archs.reformer import Reformer
from charlm.config import DataSpec, Lengths
from charlm.device import autocast
from charlm.errors import SettingsError
from charlm.plan import Plan
from charlm.presets import read
from charlm.quantize import quantize
from charlm.work import multiply_adds

SPEC = DataSpec(29, Lengths.of_text(24))


def build(**settings: Any) -> Reformer:
    torch.manual_seed(0)
    sizes = {"arch": "reformer", "hidden_size": 32, "layers": 2, "heads": 4, "chunk": 4}
    model = Plan.of({**sizes, **settings}).build(SPEC).eval()
    assert isinstance(model, Reformer)
    with torch.no_grad():  # branches that start at zero would hide much
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def tokens(batch: int, length: int) -> Tensor:
    return torch.randint(SPEC.vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))


def heads(length: int, *, rounds: int = 2, buckets: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Random qk and values (2, 3, T, 8), and buckets (2, 3, R, T)."""
    rng = torch.Generator().manual_seed(length)
    qk, values = torch.randn(2, 2, 3, length, 8, generator=rng)
    return qk, values, torch.randint(buckets, (2, 3, rounds, length), generator=rng)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


# ---- transformers


def theirs(**settings: Any) -> Any:
    """The settings of their Reformer in which it drops nothing and looks back alone."""
    transformers = pytest.importorskip("transformers")
    same = {"is_decoder": True, "use_cache": False, "axial_pos_embds": False, "layer_norm_eps": 1e-5, "vocab_size": 29}
    none = {"hidden_dropout_prob": 0.0, "lsh_attention_probs_dropout_prob": 0.0}
    return transformers.ReformerConfig(**same, **none, **settings)


@torch.no_grad()
def test_reformer_tiny_gives_the_logits_of_reformer() -> None:
    """In a window of one chunk, where theirs does not hash: beyond it their guesses depend on later tokens."""
    plan = Plan.of(read("reformer-tiny"))
    ours, c = plan.build(SPEC).eval(), plan.model
    config = theirs(
        attn_layers=["lsh"] * c.layers,
        hidden_size=c.hidden_size,
        num_attention_heads=c.heads,
        attention_head_size=c.hidden_size // c.heads,
        feed_forward_size=4 * c.hidden_size,
        lsh_attn_chunk_length=c.chunk,
        max_position_embeddings=SPEC.lengths.window,
    )
    from transformers import ReformerModelWithLMHead

    torch.manual_seed(1)
    reformer = ReformerModelWithLMHead(config).eval()
    for p in reformer.parameters():
        p.add_(0.05 * torch.randn_like(p))
    reformer.lm_head.decoder.bias.zero_()  # ours has none, as published
    given = reformer.state_dict()
    names = {"embed.weight": "embeddings.word_embeddings.weight"}
    names |= {"positions.embed.weight": "embeddings.position_embeddings.embedding.weight"}
    for layer in range(c.layers):
        attention, feed = f"encoder.layers.{layer}.attention", f"encoder.layers.{layer}.feed_forward"
        parts = {"norm": f"{attention}.layer_norm", "out": f"{attention}.output.dense"}
        parts |= {"qk": f"{attention}.self_attention.query_key", "v": f"{attention}.self_attention.value"}
        further = {"norm": f"{feed}.layer_norm", "feed_forward.up": f"{feed}.dense.dense"}
        further |= {"feed_forward.out": f"{feed}.output.dense"}
        for number, branch in enumerate((parts, further), 2 * layer):
            for our, their in branch.items():
                names |= {f"branches.{number}.{our}.{kind}": f"{their}.{kind}" for kind in ("weight", "bias")}
    names |= {f"norm.{kind}": f"encoder.layer_norm.{kind}" for kind in ("weight", "bias")}
    weights = {our: given[f"reformer.{their}"] for our, their in names.items() if f"reformer.{their}" in given}
    for layer in range(c.layers):
        both = [weights.pop(f"branches.{2 * layer}.{part}.weight") for part in ("qk", "v")]
        weights[f"branches.{2 * layer}.qk_v.weight"] = torch.cat(both)
    ours.load_state_dict(weights | {"head.weight": given["lm_head.decoder.weight"]})
    text = tokens(3, SPEC.lengths.window)
    torch.testing.assert_close(ours(text).logits, reformer(text).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rounds", [1, 3])
def test_where_every_bucket_fills_a_chunk_attention_and_its_gradient_are_theirs(
    rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it makes no difference where chunks begin: what two rounds see counts twice in both."""
    config = theirs(
        attn_layers=["lsh"],
        hidden_size=24,
        num_attention_heads=3,
        attention_head_size=8,
        lsh_attn_chunk_length=8,
        lsh_num_chunks_before=0,
        num_buckets=4,
        num_hashes=rounds,
    )
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention

    buckets = torch.stack([torch.randperm(32) // 8 for _ in range(2 * 3 * rounds)]).view(2, 3, rounds, 32)
    offset = 4 * torch.arange(rounds)[:, None]
    monkeypatch.setattr(LSHSelfAttention, "_hash_vectors", lambda *_, **__: (buckets + offset).flatten(2))
    attention = LSHSelfAttention(config, layer_idx=0)
    x = torch.randn(2, 32, 24, requires_grad=True)
    expected = attention(x).hidden_states.unflatten(-1, (3, 8)).transpose(1, 2)
    qk, v = (linear(x).unflatten(-1, (3, 8)).transpose(1, 2) for linear in (attention.query_key, attention.value))
    got = chunked(qk, v, in_order(buckets), 8)
    alone = looks(buckets, buckets, torch.ones(32, 32, dtype=torch.bool).tril(-1), 8).sum(-1) == 0
    torch.testing.assert_close(got[alone], expected[alone], atol=1e-2, rtol=0)  # theirs takes e to the 100,000 apart
    assert int(alone.sum()) < 40
    close(got[~alone], expected[~alone])
    direction = torch.randn_like(expected) * ~alone[..., None]
    close(*(torch.autograd.grad((y * direction).sum(), x)[0] for y in (got, expected)))


# ---- the paper's sums


def from_the_equations(qk: Tensor, values: Tensor, buckets: Tensor, chunk: int) -> Tensor:
    """One token after the other, what all rounds see in one softmax (equations 2 to 5), at most `chunk` keys each."""
    out = torch.zeros_like(values)
    for b, h, i in ((b, h, i) for b in range(2) for h in range(3) for i in range(qk.size(2))):
        seen = []
        for bucket in buckets[b, h]:
            seen += [j for j in range(i) if bucket[j] == bucket[i]][-chunk:]
        keys = torch.stack([qk[b, h, j] / qk[b, h, j].norm() for j in seen or [i]])
        weights = (keys @ qk[b, h, i]).softmax(0)
        out[b, h, i] = sum(weight * values[b, h, j] for weight, j in zip(weights, seen or [i], strict=True))
    return out


@pytest.mark.parametrize("chunk", [1, 3, 5, 40])
@pytest.mark.parametrize("rounds", [1, 3])
def test_chunks_compute_the_sums_of_the_paper(chunk: int, rounds: int) -> None:
    """However long they are, in fast form and in the one that writes and is looked at."""
    qk, values, buckets = heads(23, rounds=rounds)
    expected = from_the_equations(qk, values, buckets, chunk)
    close(chunked(qk, values, in_order(buckets), chunk), expected)
    before = torch.ones(23, 23, dtype=torch.bool).tril(-1)
    close(shares(qk, normalised(qk), looks(buckets, buckets, before, chunk), torch.eye(23) > 0) @ values, expected)


def test_a_hash_is_the_nearest_of_random_directions_and_their_opposites() -> None:
    attention = build(buckets=6, rounds=3).branches[0]
    qk = heads(20)[0].repeat(1, 2, 1, 1)[:, :4]
    directions = attention.rotations  # (H, R, D/H, 3)
    hashed = attention.hash(qk)
    for b, h, r, t in torch.cartesian_prod(*map(torch.arange, hashed.shape)).tolist():
        cosines = [float(qk[b, h, t] @ (sign * directions[h, r, :, n])) for sign in (1, -1) for n in range(3)]
        assert cosines[hashed[b, h, r, t]] == max(cosines)
    assert torch.equal(attention.hash(3 * qk), hashed)
    assert set(hashed.unique().tolist()) == set(range(6))


def test_rounds_that_are_added_leave_the_others_as_they_are_and_training_draws_its_own() -> None:
    few, many = (build(rounds=rounds).branches for rounds in (2, 5))
    assert torch.equal(few[2].rotations, many[2].rotations[:, :2])
    assert not torch.equal(few[0].rotations, few[2].rotations)
    qk = torch.randn(2, 4, 24, 8)
    assert torch.equal(few[0].hash(qk), few[0].hash(qk))
    few[0].train()
    assert not torch.equal(few[0].hash(qk), few[0].hash(qk))


def test_a_window_of_one_chunk_is_one_bucket_and_a_longer_one_has_two_for_each() -> None:
    assert [build(chunk=chunk).branches[0].buckets for chunk in (24, 13, 12, 4)] == [1, 2, 4, 12]
    assert build(buckets=8).branches[0].buckets == 8
    with pytest.raises(SettingsError, match=r"^--buckets must be 1 or even, .*, got 3$"):
        build(buckets=3)


# ---- the reversible stream


def remembered(x: Tensor, branches: Sequence[nn.Module], dropout: float) -> tuple[Tensor, Tensor]:
    """The same stream, y1 = x1 + F(x2) and y2 = x2 + G(y1), with everything that autograd keeps."""
    seed = torch.randint(2**62, ()) if dropout else torch.zeros(())
    x1 = x2 = x
    for layer in range(0, len(branches), 2):
        x1 = x1 + dropped(branches[layer](x2)[0], dropout, seed + layer)
        x2 = x2 + dropped(branches[layer + 1](x1)[0], dropout, seed + layer + 1)
    return x1, x2


def gradients(model: Reformer, precision: str) -> list[Tensor]:
    torch.manual_seed(1)
    model.zero_grad()
    with autocast(torch.device("cpu"), precision):
        loss = model.train()(tokens(3, 24)).logits.float().square().mean()
    torch.autograd.backward(loss)
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"layers": 6, "rounds": 1}, {"positions": "learned"}])
def test_gradients_are_those_of_a_stream_kept_in_memory(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rotations that each pass draws anew and with dropout: the backward pass decides and drops the same."""
    model = build(**settings)
    recomputed = gradients(model, "fp32")
    monkeypatch.setattr("charlm.archs.reformer.reversible", remembered)
    kept = gradients(model, "fp32")
    assert len(kept) == len(list(model.parameters()))
    for a, b in zip(recomputed, kept, strict=True):
        close(a, b)
    torch.manual_seed(2)
    assert not torch.allclose(gradients(build(dropout=0.5), "fp32")[0], kept[0], atol=1e-3)


def test_in_bf16_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    recomputed = gradients(model, "bf16")
    monkeypatch.setattr("charlm.archs.reformer.reversible", remembered)
    for a, b in zip(recomputed, gradients(model, "bf16"), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-2)


def test_weights_that_are_frozen_get_no_gradient_and_the_others_theirs() -> None:
    model = build()
    expected = dict(zip((name for name, _ in model.named_parameters()), gradients(model, "fp32"), strict=True))
    model.branches[:2].requires_grad_(False)
    model.zero_grad(set_to_none=True)
    torch.autograd.backward((torch.manual_seed(1), model.train()(tokens(3, 24)).logits.square().mean())[1])
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None
            close(p.grad, expected[name])
        else:
            assert p.grad is None


def kept_bytes(layers: int) -> int:
    """What a training step's forward pass keeps for the backward pass."""
    model, kept = build(layers=layers).train(), 0

    def keep(t: Tensor) -> Tensor:
        nonlocal kept
        kept += t.nbytes
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        model(tokens(4, 24)).logits.sum()
    return kept


def test_memory_does_not_grow_with_the_layers_but_for_the_order_of_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    order = 4 * (4 * 4 * 2 * 24)  # bytes of a number for each row, head, round and token
    assert kept_bytes(8) - kept_bytes(2) == 6 * order
    assert 6 * order < 0.7 * kept_bytes(2)
    monkeypatch.setattr("charlm.archs.reformer.reversible", remembered)
    assert kept_bytes(8) - kept_bytes(2) > 100 * order


# ---- as a language model


MIXTURES = pairwise(["sinusoidal", "learned", "rotary", "none"], [1, 3], [1, 4, 30], [None, 1, 2])


@pytest.mark.parametrize(("positions", "rounds", "chunk", "buckets"), MIXTURES)
@torch.no_grad()
def test_every_mixture_of_two_options_streams(positions: str, rounds: int, chunk: int, buckets: int | None) -> None:
    model = build(positions=positions, rounds=rounds, chunk=chunk, buckets=buckets)
    text, state, step, parts = tokens(2, 40), model.start(2), model.stepper(2), []
    whole = model(text).logits
    step.begin(state)
    for t in range(40):
        torch.testing.assert_close(step(text[:, t]), whole[:, t], atol=1e-4, rtol=1e-4)
    for piece in torch.tensor_split(text, [5, 6, 20, 33], dim=1):
        logits, state, _ = model(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-4)


def test_its_work_is_counted_with_any_number_of_buckets() -> None:
    """On the outline of a network, which has no numbers."""
    plans = [Plan.of({"arch": "reformer", "chunk": 4, "rounds": rounds}) for rounds in (1, 4)]
    one, four = (multiply_adds(plan.outline(SPEC)) for plan in plans)
    assert one < four


@torch.no_grad()
def test_with_8_bit_weights_it_writes_what_it_reads() -> None:
    model, text = build(), tokens(1, 30)
    quantize(model)
    step, whole = model.stepper(1), model(text).logits
    step.begin(model.start(1))
    for t in range(30):
        torch.testing.assert_close(step(text[:, t]), whole[:, t], atol=0.05, rtol=0.05)


@torch.no_grad()
def test_the_weights_shown_are_those_of_the_rounds_together() -> None:
    model = build(layers=1, rounds=3)
    text = tokens(1, 20)
    weights = model.attention_weights(text[0])
    assert weights.shape == (1, 4, 20, 20)
    assert (weights.triu(1) == 0).all()
    close(weights.sum(-1), torch.ones(1, 4, 20))
    alone = weights[0].diagonal(dim1=-2, dim2=-1)
    assert set(alone.unique().tolist()) == {0.0, 1.0}
    attention, x = model.branches[0], model.embedded(text, slice(20))
    _, values = attention.project(x, slice(20))
    close(attention.out((weights @ values).transpose(1, 2).flatten(2)), attention(x)[0])


def test_what_cannot_be_looked_into_is_refused() -> None:
    with pytest.raises(SettingsError, match="leave --source out"):
        build().attention_weights(tokens(1, 5)[0], tokens(1, 5)[0])
    with pytest.raises(SettingsError, match="has 25 tokens and the window of this run holds 24"):
        build().attention_weights(tokens(1, 25)[0])
