"""Training: tokens per second of charlm's loop and of a plain fp32 GPT loop, and the share of the machine's limit.

    python -m bench train [--device cpu|cuda] [--json FILE]

The limit is a large fp32 matrix product measured in the same run; a model's work is counted as 6 x multiply-adds per
token (`charlm.work`) x tokens. `optimizer` and `data` are shares of a step's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench._table import Row, machine, parser, rate, show
from charlm.config import DataSpec
from charlm.device import autocast
from charlm.forecast.speed import matrix_product_speed
from charlm.plan import Plan
from charlm.text.windows import Windows
from charlm.training.loop import Batches, Trainer
from charlm.work import multiply_adds

GPT = {"arch": "transformer", "layers": 6, "hidden_size": 384, "heads": 6, "batch_size": 16, "seq_len": 256}
VARIANTS: list[dict[str, Any]] = [
    GPT | {"precision": "fp32", "compile": "off"},
    GPT | {"precision": "bf16", "compile": "off"},
    GPT | {"precision": "bf16", "compile": "on"},
    {"arch": "transformer"},
    {"arch": "lstm", "hidden_size": 512, "batch_size": 16, "seq_len": 64},
    {"arch": "lstm", "hidden_size": 512, "batch_size": 24, "seq_len": 128},
    {"arch": "lstm", "precision": "fp32"},
    {"arch": "lstm"},
]
VOCABULARY = 65
IDS = np.random.default_rng(0).integers(VOCABULARY, size=300_000, dtype=np.uint8)


def trainer(plan: Plan, batches: Batches | None = None) -> Trainer:
    """A training on random ids, or on the `batches` given."""
    s = plan.train
    batches = batches or Windows(IDS, batch_size=s.batch_size, seq_len=s.seq_len, order="stream", seed=0)
    return Trainer.from_plan(plan, batches, DataSpec(VOCABULARY, plan.lengths))


def speed(settings: dict[str, Any], device: str, seconds: float = 12) -> Row:
    plan = Plan.of({"steps": 10**9, "warmup": 0.0, "device": device, **settings})
    loop = trainer(plan)
    steps = iter(loop)
    for _ in range(3):
        float(next(steps).nats)
    work = 6 * multiply_adds(plan.outline(loop.model.spec)) * loop.batches.tokens  # forward, and twice as much back
    steps_per_second = rate(lambda: float(next(steps).nats), seconds=seconds)
    updating = 1 / rate(lambda: update(loop), seconds=2)
    reading = 1 / rate(lambda: loop.feed(0.0, torch.Generator()), seconds=0.5)
    tokens = steps_per_second * loop.batches.tokens
    return {
        "precision": loop.settings.precision,
        "tokens/s": tokens,
        "GFLOP/s": work * steps_per_second / 1e9,
        "optimizer": f"{updating * steps_per_second:.1%}",
        "data": f"{reading * steps_per_second:.2%}",
    }


def update(loop: Trainer) -> None:
    """The part of a step after the gradients: the optimizers, here with gradients of zero."""
    for p in loop.model.parameters():
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    for optimizer in loop.optimizers:
        optimizer.found_inf = torch.zeros((), device=loop.device)  # type: ignore[attr-defined]
        optimizer.step()
    if loop.device.type == "cuda":
        torch.cuda.synchronize()


def plain_gpt(settings: dict[str, Any], device: str, *, precision: str = "fp32", seconds: float = 12) -> float:
    """Tokens per second of a loop as in a tutorial over PyTorch's own layers, with AdamW."""
    size, length = settings["hidden_size"], settings["seq_len"]
    layer = torch.nn.TransformerEncoderLayer(
        size, settings["heads"], 4 * size, 0.0, "gelu", batch_first=True, norm_first=True, bias=False
    )
    body = torch.nn.TransformerEncoder(layer, settings["layers"], enable_nested_tensor=False)
    model = torch.nn.ModuleList([torch.nn.Embedding(VOCABULARY, size), body, torch.nn.Linear(size, VOCABULARY)])
    embed, body, head = model.to(device)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(length, device=device)
    guess = lambda tokens: head(body(embed(tokens), mask, is_causal=True))  # noqa: E731
    return plain(model, guess, settings, device, precision, seconds)


def plain_lstm(settings: dict[str, Any], device: str, *, precision: str = "fp32", seconds: float = 12) -> float:
    """The same over `nn.LSTM`, which carries no state on."""
    size = settings["hidden_size"]
    rnn = torch.nn.LSTM(64, size, batch_first=True)
    model = torch.nn.ModuleList([torch.nn.Embedding(VOCABULARY, 64), rnn, torch.nn.Linear(size, VOCABULARY)])
    embed, rnn, head = model.to(device)
    return plain(model, lambda tokens: head(rnn(embed(tokens))[0]), settings, device, precision, seconds)


def plain(
    model: torch.nn.Module,
    guess: Callable[[Tensor], Tensor],
    settings: dict[str, Any],
    device: str,
    precision: str,
    seconds: float,
) -> float:
    """Tokens per second of steps on one batch; `guess` makes logits of tokens."""
    rows, length = settings["batch_size"], settings["seq_len"]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    tokens = torch.randint(VOCABULARY, (rows, length + 1), device=device)

    def step() -> None:
        with autocast(torch.device(device), precision):
            logits = guess(tokens[:, :-1])
        F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return rows * length * rate(step, seconds=seconds)


def rows(device: str) -> Iterator[Row]:
    limit = matrix_product_speed(torch.device(device), "fp32")
    yield {"what": "matrix product", "GFLOP/s": limit / 1e9}
    plain = plain_gpt(GPT, device)
    yield {"what": "plain GPT loop, fp32, 6 x 384", "tokens/s": plain}
    for settings in VARIANTS:
        began = time.perf_counter()
        row = speed(settings, device)
        name = ", ".join(f"{key} {value}" for key, value in settings.items() if key not in ("arch", "heads"))
        row |= {"what": f"{settings['arch']} {name}", "of fp32 limit": row["GFLOP/s"] * 1e9 / limit}
        if settings["arch"] == "transformer" and "heads" in settings:
            row["of plain"] = row["tokens/s"] / plain
        yield row | {"all seconds": time.perf_counter() - began}


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = options.parse_args(argv)
    columns = ["what", "precision", "tokens/s", "GFLOP/s", "of fp32 limit", "of plain", "optimizer", "data"]
    show(rows(args.device), columns, args.json, title=machine(args.device))
