"""What the measurements count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from charlm.config import DataSpec, Lengths
from charlm.plan import Plan


@pytest.mark.parametrize("settings", [{}, {"layers": 2, "heads": 1, "hidden_size": 64}, {"seq_len": 256}])
def test_the_work_of_a_transformer_is_what_pytorch_counts(
    settings: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward, attention with it, but for the tables that are looked up and not multiplied with."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    from bench.train import flops

    plan = Plan.of({"arch": "transformer", **settings})
    model = plan.build(DataSpec(65, Lengths.of_text(plan.train.seq_len)))
    tokens = torch.zeros(2, plan.train.seq_len, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens).logits.sum().backward()
    tables = model.embed.weight.numel() + model.earlier.weight.numel()
    assert (flops(model) - 6 * tables) * tokens.numel() == pytest.approx(counter.get_total_flops(), rel=0.03)
