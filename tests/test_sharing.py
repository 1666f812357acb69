"""One set of weights for all blocks, and embeddings narrower than they are, against copies, and against ALBERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from charlm.archs._numpy import TransformerStepper
from charlm.config import DataSpec, Lengths, TrainSettings
from charlm.errors import SettingsError
from charlm.model import parameter_count
from charlm.plan import Plan
from charlm.presets import read
from charlm.quantize import quantize
from charlm.runs import checkpoint
from charlm.training.optim import build_optimizers
from charlm.work import multiply_adds

SPEC = DataSpec(29, Lengths.of_text(24))
SMALL = {"arch": "transformer", "hidden_size": 32, "layers": 3, "heads": 2}
SHARED = {"share_layers": True}
NARROW = {"embedding_size": 8, "tied": True, "positions": "learned"}


def build(**settings: Any) -> Any:
    torch.manual_seed(0)
    model = Plan.of({**SMALL, **settings}).build(SPEC).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(SPEC.vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


def test_it_computes_what_copies_of_one_block_do_and_learns_from_all_of_them() -> None:
    """Equal logits, and its gradient is the sum of theirs."""
    shared, copies = build(**SHARED), build()
    with torch.no_grad():
        for name, p in copies.named_parameters():
            first = name if not name.startswith("blocks.") else f"blocks.0.{name.split('.', 2)[2]}"
            p.copy_(shared.get_parameter(first))
    text = tokens(2, 24)
    torch.testing.assert_close(shared(text).logits, copies(text).logits)
    for model in (shared, copies):
        torch.nn.functional.cross_entropy(model(text).logits.mT, text.roll(-1, 1)).backward()
    for name, p in shared.blocks[0].named_parameters():
        summed = sum(block.get_parameter(name).grad for block in copies.blocks)
        torch.testing.assert_close(p.grad, summed, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("settings", [SHARED, NARROW, SHARED | NARROW, SHARED | NARROW | {"bias": True}])
@torch.no_grad()
def test_it_streams_and_writes_as_it_reads(settings: dict[str, Any]) -> None:
    """Also when its weights are rounded, which are then rounded once."""
    model, text = build(**settings), tokens(2, 40)
    for rounded in (False, True):
        if rounded:
            quantize(model)
        whole, tolerance = model(text).logits, 0.15 if rounded else 1e-4
        state = model(text[:, :11]).state
        torch.testing.assert_close(model(text[:, 11:], state).logits, whole[:, 11:], atol=tolerance, rtol=tolerance)
        step = model.stepper(2)
        assert isinstance(step, TransformerStepper)
        step.begin(state)
        for t in range(11, 40):
            torch.testing.assert_close(step(text[:, t]), whole[:, t], atol=tolerance, rtol=tolerance)


def test_sharing_saves_parameters_and_no_work() -> None:
    shared, copies, shallow = (Plan.of({**SMALL, **settings}) for settings in (SHARED, {}, {"layers": 1}))
    sizes = [parameter_count(plan.outline(SPEC)) for plan in (shared, copies, shallow)]
    work = [multiply_adds(plan.outline(SPEC)) for plan in (shared, copies, shallow)]
    assert sizes[0] == sizes[2] < sizes[1]
    assert work[0] == work[1] > 2 * work[2]


def test_a_part_is_thawed_saved_and_optimized_once(tmp_path: Path) -> None:
    model = build(**SHARED, **NARROW)
    stages = list(model.stages())
    assert len(stages) == len(set(stages))
    weights = list(model.parameters())
    for optimizer in ("adamw", "muon"):
        made = build_optimizers(model, TrainSettings(optimizer=optimizer))
        assert sorted(id(p) for o in made for g in o.param_groups for p in g["params"]) == sorted(map(id, weights))
    checkpoint.save_weights(tmp_path / "m.safetensors", model, {})
    saved, _ = checkpoint.read_weights(tmp_path / "m.safetensors", model)
    assert sum(t.numel() for t in saved.values()) == parameter_count(model)
    assert not [name for name in saved if name.startswith(("blocks.1", "blocks.2"))]
    other = build(**SHARED, **NARROW)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    checkpoint.set_weights(other, saved, tmp_path)
    assert torch.equal(model(tokens(1, 9)).logits, other(tokens(1, 9)).logits)


def test_narrow_embeddings_are_a_table_and_a_product_each_way() -> None:
    wide, narrow = (build(tied=True, ngram=1, embedding_size=size) for size in (None, 8))
    assert parameter_count(wide) - parameter_count(narrow) == SPEC.vocab_size * (32 - 8) - 2 * 32 * 8
    with pytest.raises(SettingsError, match="--embedding-size must be at most the --hidden-size 32, got 64"):
        build(embedding_size=64)


@pytest.fixture
def albert() -> Any:
    transformers = pytest.importorskip("transformers")
    c = Plan.of(read("albert-tiny")).model
    config = transformers.AlbertConfig(
        vocab_size=SPEC.vocab_size,
        embedding_size=c.embedding_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        intermediate_size=4 * c.hidden_size,
        max_position_embeddings=SPEC.lengths.window,
        attn_implementation="eager",
    )
    torch.manual_seed(1)
    theirs = transformers.AlbertForMaskedLM(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return theirs


def test_albert_has_as_many_parameters(albert: Any) -> None:
    """But for its segments, and norms of the embeddings and in the head, which a language model has not."""
    ours = Plan.of(read("albert-tiny"), {"norm_place": "post", "init": "unigram"}).build(SPEC)
    extra = [albert.albert.embeddings.token_type_embeddings, albert.albert.embeddings.LayerNorm]
    extra.append(albert.predictions.LayerNorm)
    assert parameter_count(albert) == parameter_count(ours) + sum(map(parameter_count, extra))


@torch.no_grad()
def test_blocks_that_are_one_compute_what_alberts_do(albert: Any) -> None:
    model: Any = Plan.of(read("albert-tiny"), {"norm_place": "post"}).build(SPEC).eval()
    model.widen.load_state_dict(albert.albert.encoder.embedding_hidden_mapping_in.state_dict())
    block = model.blocks[0]
    layer = albert.albert.encoder.albert_layer_groups[0].albert_layers[0]
    theirs = layer.attention
    parts = {"attention.out": theirs.dense, "norm1": theirs.LayerNorm, "norm3": layer.full_layer_layer_norm}
    parts |= {"feed_forward.up": layer.ffn, "feed_forward.out": layer.ffn_output}
    for name, module in parts.items():
        block.get_submodule(name).load_state_dict(module.state_dict())
    for kind in ("weight", "bias"):
        stacked = torch.cat([getattr(part, kind) for part in (theirs.query, theirs.key, theirs.value)])
        getattr(block.attention.qkv, kind).copy_(stacked)
    x = torch.randn(2, 9, 32)
    ours = model.widen(x)
    for block in model.blocks:
        ours = block.feed(block.bidirectional_attention(ours, None))
    torch.testing.assert_close(ours, albert.albert.encoder(x).last_hidden_state, atol=1e-4, rtol=1e-4)
