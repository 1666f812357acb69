"""The original Transformer against PyTorch's own, and what a source may and may not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.archs.encdec import EncDec
from charlm.config import DataSpec, Lengths, TrainSettings
from charlm.errors import SettingsError
from charlm.model import PAD, parameter_count
from charlm.objectives import load
from charlm.objectives._base import summed_nats
from charlm.objectives.pairs import shown
from charlm.plan import Plan
from charlm.text.buckets import Buckets, EncodedLines
from charlm.training.loop import Trainer
from charlm.training.optim import build_optimizers

SPEC = DataSpec(23, Lengths.of_text(24))
LAYERS, SIZE = 3, 32


def build(spec: DataSpec = SPEC, **settings: object) -> EncDec:
    torch.manual_seed(0)
    values = {"arch": "encdec", "layers": LAYERS, "hidden_size": SIZE, "heads": 4, "dropout": 0.0, **settings}
    model = Plan.of(values).build(spec).eval()
    assert isinstance(model, EncDec)
    with torch.no_grad():  # biases start at zero, which would hide a missing one
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def tokens(batch: int, length: int, seed: int = 0, vocab_size: int = SPEC.vocab_size) -> Tensor:
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded_source() -> Tensor:
    """4 sources of 9, 5, 1 and 8 tokens."""
    source = tokens(4, 9, seed=1)
    for row, size in enumerate((9, 5, 1, 8)):
        source[row, size:] = PAD
    return source


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def pytorchs(model: EncDec) -> nn.Transformer:
    """`nn.Transformer` with the weights of ours."""
    sizes = {"d_model": SIZE, "nhead": 4, "dim_feedforward": 4 * SIZE, "dropout": 0.0, "batch_first": True}
    pre = model.config.norm_place == "pre"
    layers = nn.TransformerEncoderLayer(**sizes, norm_first=pre), nn.TransformerDecoderLayer(**sizes, norm_first=pre)
    last = [nn.LayerNorm(SIZE) if pre else None for _ in range(2)]
    encoder = nn.TransformerEncoder(layers[0], LAYERS, last[0], enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(layers[1], LAYERS, last[1])
    theirs = nn.Transformer(SIZE, 4, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    ours = model.state_dict()
    copied = {}
    for name in theirs.state_dict():
        stack, _, rest = name.partition(".")
        if rest.startswith("norm."):
            copied[name] = ours[f"{stack}_{rest}"]
            continue
        _, layer, part, *more = rest.split(".")
        kind = more[-1].removeprefix("in_proj_") if more else ""
        at = f"{stack}.{layer}.{ {'self_attn': 'attention', 'multihead_attn': 'cross'}.get(part, part) }"
        if more[0].startswith("in_proj"):
            copied[name] = ours[f"{at}.qkv.{kind}"]
        elif more[0] == "out_proj":
            copied[name] = ours[f"{at}.out.{kind}"]
        else:
            names = {"linear1": "feed_forward.up", "linear2": "feed_forward.out"}
            names |= {"norm2": "norm3"} if stack == "encoder" else {}
            renamed = names.get(part, part)
            copied[name] = ours[f"{stack}.{layer}.{renamed}.{kind}"]
    theirs.load_state_dict(copied)
    return theirs


@pytest.mark.parametrize("norm_place", ["post", "pre"])
@torch.no_grad()
def test_it_is_pytorchs_transformer(norm_place: str) -> None:
    """Sources are padded, and with dropout 0 training computes what evaluation does."""
    model, source, target = build(norm_place=norm_place), padded_source(), tokens(4, 12)
    theirs, padding = pytorchs(model), source == PAD
    expected = theirs(
        model.embedded(source.clamp(min=0), model.embed, slice(9)),
        model.embedded(target, model.embed, slice(12)),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(12),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    close(model.features(target, model.read(source)).hidden, expected)


@pytest.mark.parametrize("norm_place", ["post", "pre"])
@torch.no_grad()
def test_writing_token_by_token_is_what_was_trained(norm_place: str) -> None:
    model, source, target = build(norm_place=norm_place), padded_source(), tokens(4, 12)
    expected, step = model(target, source=source).logits, model.stepper(4)
    step.begin(model.read(source))
    for t in range(12):
        close(step(target[:, t]), expected[:, t])


@torch.no_grad()
def test_a_loss_depends_neither_on_the_batch_nor_on_its_padding() -> None:
    model, source, target = build(), padded_source(), tokens(4, 9, seed=2)
    target[1, 4:] = PAD

    def nats(source: Tensor, target: Tensor) -> Tensor:
        batch = shown((source, target))
        return summed_nats(model(batch.tokens, source=batch.source).logits, batch.targets)

    order = torch.tensor([2, 0, 3, 1])
    close(nats(source[order], target[order]), nats(source, target))
    close(nats(F.pad(source, (0, 3), value=PAD), F.pad(target, (0, 2), value=PAD)), nats(source, target))
    close(sum(nats(source[i : i + 1], target[i : i + 1]) for i in range(4)), nats(source, target))


def test_of_a_source_without_tokens_nothing_is_seen_and_nothing_breaks() -> None:
    """Whether it has no columns or nothing but padding, and in the gradient too."""
    model, target = build(), tokens(2, 6)
    blank = model(target, source=target[:, :0]).logits
    close(model(target, source=torch.full((2, 5), PAD)).logits, blank)
    close(model(target).logits, blank)
    mixed = model(target, source=torch.tensor([[PAD, PAD], [3, 4]])).logits
    close(mixed[0], blank[0])
    mixed.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_the_decoder_looks_at_the_source_and_not_at_its_padding() -> None:
    model, source, target = build(), tokens(1, 7, seed=1)[0], tokens(1, 5)[0]
    weights = model.attention_weights(target, F.pad(source, (0, 3), value=PAD))
    assert weights.shape == (LAYERS, 4, 5, 10)
    assert (weights[..., 7:] == 0).all()
    close(weights.sum(-1), torch.ones(LAYERS, 4, 5))
    close(weights[..., :7], model.attention_weights(target, source))
    both = torch.cat([source, target[:1], target])  # 6 are read, 7 written
    close(model.attention_weights(both), model.attention_weights(both[6:], both[:6]))


@torch.no_grad()
def test_the_weights_shown_are_those_that_the_fused_product_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the identity for values, it returns the weights themselves."""
    model, source, target = build(), tokens(1, 7, seed=1)[0], tokens(1, 5)[0]
    fused, used = F.scaled_dot_product_attention, []

    def spy(q: Tensor, k: Tensor, v: Tensor, *more: object, **named: object) -> Tensor:
        used.append(fused(q, k, torch.eye(k.size(2)).expand(*k.shape[:2], -1, -1), *more, **named)[0])
        return fused(q, k, v, *more, **named)

    shown = model.attention_weights(target, source)
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    model(target[None], source=source[None])
    close(shown, torch.stack(used[LAYERS + 1 :: 2]))  # after the encoder's: over itself, over the source, in turn


@pytest.mark.parametrize(("read", "write"), [(0, 1), (1, 0), (13, 1), (1, 13)])
def test_what_does_not_fit_is_not_looked_into(read: int, write: int) -> None:
    with pytest.raises(SettingsError, match=f"{read} tokens to read and {write} to write .* reads 1 to 12 and writes"):
        build().attention_weights(tokens(1, write)[0], tokens(1, read)[0])


def test_one_vocabulary_has_one_table_and_two_have_two() -> None:
    shared, untied = build(), build(tied=False)
    assert shared.head.weight is shared.embed.weight
    assert parameter_count(untied) == parameter_count(shared) + SPEC.vocab_size * SIZE
    model = build(SPEC._replace(source_vocab_size=50))
    assert parameter_count(model) == parameter_count(shared) + 50 * SIZE
    assert model(tokens(2, 5), source=tokens(2, 9, vocab_size=50)).logits.shape == (2, 5, SPEC.vocab_size)
    with pytest.raises(SettingsError, match="writes at most 12 tokens to a source: it reads another vocabulary"):
        model(tokens(2, 13), source=tokens(2, 9, vocab_size=50))


def test_the_parameters_are_those_of_the_paper() -> None:
    """The base model of table 3, with the 37,000 tokens of section 5.1: "65 million"."""
    plan = Plan.of({"arch": "encdec", "layers": 6, "hidden_size": 512, "heads": 8, "init": "published"})
    assert parameter_count(plan.outline(DataSpec(37_000, Lengths.of_text(256)))) == 63_082_496
    narrow = replace(plan.model, feed_forward=1024)
    less = parameter_count(replace(plan, model=narrow).outline(DataSpec(37_000, Lengths.of_text(256))))
    assert less == 63_082_496 - 12 * 1024 * (2 * 512 + 1)


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match="--hidden-size must be a multiple of --heads, got 30 and 4"):
        build(hidden_size=30)


def lines(number: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 11, 1 + n % 5).tolist() for n in range(number)]


def joined(lines: list[list[int]]) -> EncodedLines:
    """Token 0 is a newline."""
    ends = np.cumsum([0] + [len(line) + 1 for line in lines])
    return EncodedLines(np.concatenate([[*line, 0] for line in lines]).astype(np.uint8), ends)


def test_it_learns_to_write_lines_backwards() -> None:
    """Lines that it has not seen, too."""
    known, fresh = lines(1200, seed=0), lines(60, seed=1)
    settings = TrainSettings(steps=400, lr=5e-3, warmup=0.1)
    model = build(DataSpec(11, Lengths.of_text(16)), layers=2)
    text = Buckets.of_pairs(joined(known), joined([line[::-1] for line in known]), batch_tokens=200, seed=0)
    list(Trainer(model, text, build_optimizers(model, settings), settings, objective=load("pairs")()))
    right = sum(written(model.eval(), line) == line[::-1] for line in fresh)
    assert right >= 0.8 * len(fresh), right


@torch.no_grad()
def written(model: EncDec, line: list[int]) -> list[int]:
    state, token, found = model.read(torch.tensor([[*line, 0]])), torch.tensor([0]), []
    while len(found) <= len(line):
        logits, state = model.step(token, state)
        token = logits.argmax(-1)
        found.append(int(token))
    return found[:-1] if found[-1] == 0 else found
