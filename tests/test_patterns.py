"""Attention patterns: the figures of the papers, and every fast form against the mask that they stand for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from charlm.archs import _sparse
from charlm.archs._graph import GraphStepper
from charlm.archs._numpy import TransformerStepper
from charlm.archs._patterns import NAMES, Pattern, PatternConfig, pattern
from charlm.archs._sparse import PatternMask, flex, grouped, groups
from charlm.config import DataSpec, Lengths
from charlm.device import can_compile
from charlm.errors import SettingsError
from charlm.plan import Plan

SPARSE = [name for name in NAMES if name != "dense"]
CPU = torch.device("cpu")


def make(name: str, *, heads: int = 4, length: int = 300, causal: bool = True, layer: int = 0, **given: int) -> Pattern:
    made = pattern(name, PatternConfig(name, **given), layer=layer, heads=heads, length=length, causal=causal)
    assert made is not None
    return made


def drawing(mask: Tensor) -> list[str]:
    return ["".join("x" if seen else "." for seen in row) for row in mask.tolist()]


def drawn(made: Pattern, length: int, head: int = 0) -> list[str]:
    places = torch.arange(length)
    return drawing(made.mask(places, places).expand(made.heads, -1, -1)[head])


WINDOW = """
x.......
xx......
xxx.....
.xxx....
..xxx...
...xxx..
....xxx.
.....xxx
"""
LONGFORMER = """
x.......
xx......
xxx.....
xxxx....
xxxxx...
xx.xxx..
xx..xxx.
xx...xxx
"""
ENCODER_LONGFORMER = """
xxxxxxxx
xxx.....
xxxx....
x.xxx...
x..xxx..
x...xxx.
x....xxx
x.....xx
"""


def test_window_and_longformer_are_the_bands_and_columns_of_their_figures() -> None:
    """Beltagy et al., figure 2 (b) and (d); a causal one is its lower half."""
    assert drawn(make("window", pattern_window=3), 8) == WINDOW.split()
    assert drawn(make("longformer", pattern_window=3, global_tokens=2), 8) == LONGFORMER.split()
    both = make("longformer", pattern_window=2, global_tokens=1, causal=False)
    assert drawn(both, 8) == ENCODER_LONGFORMER.split()


def test_strided_is_a_band_and_diagonals() -> None:
    """Child et al., figure 3 (b), stride 3: the last 3 places, and each third before."""
    expected = """
        x........
        xx.......
        xxx......
        xxxx.....
        .xxxx....
        ..xxxx...
        x..xxxx..
        .x..xxxx.
        ..x..xxxx
    """
    assert drawn(make("strided", pattern_stride=3), 9) == expected.split()


def test_fixed_is_blocks_and_their_last_columns_which_differ_by_head() -> None:
    """Child et al., figure 3 (c), blocks of 4 with one column."""
    first = """
        x.........
        xx........
        xxx.......
        xxxx......
        ...xx.....
        ...xxx....
        ...xxxx...
        ...xxxxx..
        ...x...xx.
        ...x...xxx
    """
    made = make("fixed", pattern_stride=4)
    assert drawn(made, 10) == first.split()
    rows = [drawn(made, 10, head)[-1] for head in range(4)]
    assert rows == ["...x...xxx", "..x...x.xx", ".x...x..xx", "x...x...xx"]


def test_bigbird_is_a_global_block_a_band_of_blocks_and_drawn_ones() -> None:
    """Zaheer et al., figure 1, blocks of one: its rows beyond what is near see so many others, by layer."""
    pictures = set()
    for layer in range(6):
        picture = drawn(make("bigbird", pattern_window=2, random_blocks=2, layer=layer), 20)
        assert picture == drawn(make("bigbird", pattern_window=2, random_blocks=2, layer=layer), 20)
        for place, row in enumerate(picture):
            assert row[0] == row[place] == row[max(0, place - 1)] == "x"
            assert row.count("x") == min(place + 1, 1 + 2 + 2)
            assert "x" not in row[place + 1 :]
        pictures.add("".join(picture))
    assert len(pictures) == 6
    longer = drawn(make("bigbird", pattern_window=2, random_blocks=2, length=1000), 20)
    assert longer == drawn(make("bigbird", pattern_window=2, random_blocks=2, length=20), 20)
    encoder = drawn(make("bigbird", pattern_window=2, random_blocks=2, length=20, causal=False), 20)
    assert encoder[0] == "x" * 20
    assert {row.count("x") for row in encoder[2:-1]} == {1 + 3 + 2}


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize(("past", "new", "causal"), [(0, 1, True), (0, 101, True), (37, 64, True), (0, 101, False)])
def test_groups_of_queries_get_what_the_mask_gives(name: str, past: int, new: int, causal: bool) -> None:
    """Values and gradients, at lengths that fill no block, after a past, and in both directions with padding."""
    made, end = make(name, causal=causal, length=128, layer=1), past + new
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, 8, requires_grad=True) for n in (new, end, end))
    tokens = None if causal else (torch.arange(end) < torch.tensor([[end], [end - 9]]))[:, None, None]
    rows = slice(made.readers, None if causal else end - 9)  # what padding itself gets is nobody's
    dense = F.scaled_dot_product_attention(q, k, v, PatternMask(made, tokens).dense(q, k))[:, :, rows]
    sparse = grouped(q, k, v, groups(made, past, end, CPU), tokens, 0.0)[:, :, rows]
    torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(dense)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), (q, k, v)) for y in (sparse, dense)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SPARSE)
@torch.no_grad()
def test_flex_attention_is_the_same_predicate(name: str) -> None:
    made = make(name, length=150)
    q, k, v = (torch.randn(1, 4, n, 16) for n in (100, 150, 150))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is slow where it is not compiled
        flexible = flex(q, k, v, made)
    dense = F.scaled_dot_product_attention(q, k, v, PatternMask(made).dense(q, k))
    torch.testing.assert_close(flexible, dense, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SPARSE)
def test_a_gpu_computes_what_the_mask_gives(name: str) -> None:
    made = make(name, length=1024)
    q, k, v = (torch.randn(1, 4, 1024, 32, device="cuda", requires_grad=True) for _ in range(3))
    assert _sparse.flex_works(made, q.device, q.dtype, 32) or name == "bigbird"  # its draw may not compile
    sparse, dense = (
        y.sum()
        for y in (
            PatternMask(made).mix(q, k, v),
            F.scaled_dot_product_attention(q, k, v, PatternMask(made).dense(q, k)),
        )
    )
    for a, b in zip(*(torch.autograd.grad(y, (q, k, v)) for y in (sparse, dense)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-2)


def build(arch: str = "transformer", window: int = 24, **settings: Any) -> Any:
    torch.manual_seed(0)
    plan = Plan.of({"arch": arch, "hidden_size": 32, "layers": 2, "heads": 4, "dropout": 0.0, **settings})
    model = plan.build(DataSpec(11, Lengths.of_text(window))).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def text(rows: int, length: int) -> Tensor:
    return torch.randint(11, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def by_groups(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on no sequence is so short that the mask is used."""

    def begin() -> None:
        monkeypatch.setattr(_sparse, "DENSE_BELOW", 0)
        monkeypatch.setattr(_sparse, "SPARSE_UP_TO", math.inf)

    return begin


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*SPARSE, "dense,window"])
@torch.no_grad()
def test_text_in_pieces_and_token_by_token_is_text_at_once(name: str, by_groups: Callable[[], None]) -> None:
    """The streaming law past the window, by the mask and by groups, and both steppers."""
    model, tokens = build(pattern=name), text(2, 60)
    whole = model(tokens).logits
    by_groups()
    state, pieces = model.start(2), []
    for piece in torch.tensor_split(tokens, [1, 10, 24, 25, 50], 1):
        out = model(piece, state)
        state = out.state
        pieces.append(out.logits)
    close(torch.cat(pieces, 1), whole)
    assert isinstance(model.stepper(2), TransformerStepper)
    for step in (model.stepper(2), GraphStepper(model, 2)):
        step.begin(model.read(tokens[:, :5]))
        for t in range(5, 60):
            close(step(tokens[:, t]), whole[:, t])


@pytest.mark.parametrize("options", [{"qk_norm": False, "positions": "learned"}, {"qk_norm": True}])
@pytest.mark.parametrize("name", ["strided", "bigbird"])
def test_a_model_learns_the_same_by_groups(name: str, options: dict[str, Any], by_groups: Callable[[], None]) -> None:
    """Gradients of all weights, with and without normalised and rotated queries and keys."""
    model, tokens = build(pattern=name, window=49, **options), text(2, 49)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(model(tokens).logits.logsumexp(-1).mean(), list(model.parameters()))

    dense = gradients()
    by_groups()
    for a, b in zip(gradients(), dense, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["strided", "bigbird"])
def test_a_compiled_model_computes_the_same(name: str) -> None:
    """By groups, in one graph."""
    if not can_compile(CPU):
        pytest.skip("torch.compile finds no compiler here")
    model, tokens = build(pattern=name, window=1024), text(1, 1024)
    close(torch.compile(model, fullgraph=True)(tokens).logits, model(tokens).logits)


def scored(name: str, length: int, **given: int) -> int:
    made = make(name, length=length, heads=1, **given)
    return sum(part.work for part in groups(made, 0, length, CPU))


def test_work_grows_with_the_length_or_its_power_of_one_and_a_half() -> None:
    for name in ("window", "longformer", "bigbird"):
        assert scored(name, 16384, pattern_window=64) <= 4.1 * scored(name, 4096, pattern_window=64)
    for name in ("strided", "fixed"):
        assert scored(name, 16384) <= 8.2 * scored(name, 4096)  # 4 ** 1.5
    assert all(scored(name, 4096) < 4096**2 / 10 for name in SPARSE)


def test_pytorch_counts_less_work_too() -> None:
    counts = {}
    for name in ("dense", "strided"):
        model = build(pattern=name, window=1024)
        with (
            FlopCounterMode(display=False) as counter,
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            model(text(1, 1024))
        counts[name] = counter.get_total_flops()
    attention = 2 * 2 * 2 * 1024**2 * 32  # layers, energies and values, multiply and add
    assert counts["dense"] - counts["strided"] > 0.8 * attention


@torch.no_grad()
def test_a_step_touches_only_the_keys_that_it_may_see() -> None:
    """What the others hold, were it no number at all, changes nothing."""
    model, tokens = build(pattern="window", pattern_window=4), text(1, 20)
    step = model.stepper(1)
    step.begin(model.read(tokens[:, :19]))
    step.keys[:, :, :, :16] = step.values[:, :, :, :16] = float("nan")
    close(step(tokens[:, 19]), model(tokens).logits[:, 19])


@torch.no_grad()
def test_what_charlm_attend_shows_is_zero_where_nothing_is_seen() -> None:
    model = build(pattern="dense,fixed", pattern_stride=4)
    weights = model.attention_weights(text(1, 20)[0])  # (L, H, T, T)
    made = model.blocks[1].pattern
    for head in range(4):
        assert drawing(weights[1, head] > 0) == drawn(made, 20, head)
    close(weights.sum(-1), torch.ones(2, 4, 20))
    assert (weights[0] > 0).sum() == 4 * 20 * 21 / 2


@pytest.mark.parametrize("name", ["longformer", "bigbird"])
@torch.no_grad()
def test_an_encoder_looks_both_ways_by_a_pattern(name: str, by_groups: Callable[[], None]) -> None:
    """Its first token sees and is seen by all; padding is seen by none; groups give what the mask gives."""
    given = {"pattern_window": 4} | ({"global_tokens": 1} if name == "longformer" else {"random_blocks": 1})
    model, written = build("encdec", window=80, layers=1, pattern=name, **given), text(2, 5)
    source = text(2, 40)
    source[1, 33:] = -1
    dense = model(written, source=source).logits
    close(model(written[1:], source=source[1:, :33]).logits, dense[1:])
    by_groups()
    close(model(written, source=source).logits, dense)
    assert model.decoder[0].pattern is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pattern": "sparse"}, "--pattern has no 'sparse'; give one or several of dense, window, strided"),
        ({"pattern": "dense,"}, "--pattern has no ''; give one or several of dense"),
        ({"pattern_window": 9}, "--pattern-window is for --pattern window or longformer or bigbird; dense does not"),
        ({"pattern": "dense,window", "global_tokens": 2}, "--global-tokens is for --pattern longformer; dense,window"),
        ({"pattern": "strided", "pattern_stride": 0}, "--pattern-stride must be at least 1, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_length_bench_fits_a_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    from bench.length import exponent

    rows = [{"length": n, "trained/s": n / (3e-6 * n**1.5)} for n in (1024, 2048, 4096)]
    assert exponent(rows) == pytest.approx(1.5)
