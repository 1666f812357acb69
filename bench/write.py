"""Writing: tokens per second of charlm, of its peers, and at the limit of the machine, in one process.

    python -m bench write [--device cpu|cuda] [--json FILE]

The limit for one row is the speed at which the weights can be read once per token, measured by matrix-vector products
in NumPy with matrices of the model's sizes. Every figure is the best of several rounds; on a GPU it includes recording
the CUDA graph. Peers: a loop over `nn.LSTM`, as in most tutorials, and `generate` of transformers, with its KV cache
and without, and of x-transformers (extra `bench`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from bench._table import Row, machine, parser, rate, show
from charlm.config import DataSpec, Lengths
from charlm.model import LanguageModel
from charlm.plan import Plan
from charlm.quantize import quantize
from charlm.sampling.filters import Picker
from charlm.sampling.generate import fetched, generate
from charlm.sampling.noise import streams
from charlm.sampling.settings import SampleSettings

SPEC = DataSpec(65, Lengths.of_text(256))
LSTMS = [{"arch": "lstm", "layers": 1, "hidden_size": 256}, {"arch": "lstm", "layers": 2, "hidden_size": 512}]
TRANSFORMER = {"arch": "transformer", "layers": 6, "hidden_size": 384, "heads": 6}


def build(**settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    return Plan.of(settings).build(SPEC).eval()


def charlm(model: LanguageModel, rows: int, tokens: int, seconds: float = 4) -> float:
    """Tokens per second of `charlm sample` without a prompt: step, pick, copy to the host."""
    device = next(model.parameters()).device
    start = torch.zeros(1, 1, dtype=torch.long, device=device)

    def work() -> None:
        pick = Picker(SampleSettings("0.8"), streams(0, range(rows), device))
        for _ in fetched(islice(generate(model, start, pick, samples=rows, logits=False), tokens)):
            pass

    return tokens * rows * rate(work, seconds=seconds)


@torch.inference_mode()
def lstm_loop(model: Any, tokens: int) -> float:
    """Tokens per second of `nn.LSTM` called once per token, with softmax and multinomial."""

    def work() -> None:
        state, token = None, torch.zeros(1, 1, dtype=torch.long)
        for _ in range(tokens):
            hidden, state = model.rnn(model.embed(token), state)
            token = torch.multinomial((model.head(hidden[:, 0]) / 0.8).softmax(-1), 1)
            token.item()

    return tokens * rate(work, seconds=4)


def transformers_writer(device: str = "cpu", **settings: int) -> Callable[[int, bool, int], object] | None:
    """Writes so many rows, with a cache or without, of so many tokens; on a GPU in bf16."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        return None
    c = TRANSFORMER | settings
    sizes = {"n_embd": c["hidden_size"], "n_layer": c["layers"], "n_head": c["heads"]}
    config = GPT2Config(**sizes, vocab_size=65, n_positions=256, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval().to(device, torch.bfloat16 if device == "cuda" else torch.float)
    model.generation_config.eos_token_id = None
    options = {"do_sample": True, "temperature": 0.8, "top_k": 0, "pad_token_id": 0}

    def write(rows: int, cached: bool, tokens: int) -> object:
        start = torch.ones(rows, 1, dtype=torch.long, device=device)  # zeros would be padding
        return model.generate(start, max_new_tokens=tokens, use_cache=cached, **options)

    return write


def transformers_peer(device: str = "cpu", **settings: int) -> Callable[..., float] | None:
    """Its speed with so many rows, with a cache or without, for so many tokens."""
    write = transformers_writer(device, **settings)
    if write is None:
        return None

    def measure(rows: int, cached: bool, tokens: int, seconds: float = 4) -> float:
        return tokens * rows * rate(lambda: write(rows, cached, tokens), seconds=seconds)

    return measure


def x_transformers_peer() -> Callable[..., float] | None:
    try:
        from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
    except ImportError:
        return None
    body = Decoder(dim=384, depth=6, heads=6, rotary_pos_emb=True)
    model = AutoregressiveWrapper(TransformerWrapper(num_tokens=65, max_seq_len=256, attn_layers=body)).eval()

    def measure(rows: int, cached: bool, tokens: int) -> float:
        start = torch.zeros(rows, 1, dtype=torch.long)
        return tokens * rows * rate(lambda: model.generate(start, tokens, temperature=0.8, cache_kv=cached), seconds=4)

    return measure


def reading_limit(shapes: Sequence[tuple[int, int]]) -> float:
    """Passes per second over matrices of these shapes, as matrix-vector products."""
    rng = np.random.default_rng(0)
    pairs = [(rng.random(shape, np.float32), rng.random(shape[1], np.float32)) for shape in shapes]
    return rate(lambda: [np.dot(w, x) for w, x in pairs], seconds=2)


def matrices(model: nn.Module) -> list[tuple[int, int]]:
    """The shapes of all weight matrices that a token is multiplied by."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return [(p.size(0), p.size(1)) for p in model.parameters() if p.dim() == 2 and id(p) not in tables]


def on_cpu() -> Iterator[Row]:
    for settings in LSTMS:
        model = build(**settings)
        ours, peer = charlm(model, 1, 3000), lstm_loop(model, 200)
        size = f"{settings['layers']} x {settings['hidden_size']}"
        limit = reading_limit(matrices(model))
        yield {"what": f"lstm {size}", "rows": 1, "charlm": ours, "peer": peer, "name": "nn.LSTM loop", "limit": limit}
    peers = {"transformers generate": transformers_peer(), "x-transformers generate": x_transformers_peer()}
    for rows, cached in ((1, True), (1, False), (16, True)):
        exact, rounded = build(**TRANSFORMER), build(**TRANSFORMER)
        quantize(rounded)
        limit = reading_limit(matrices(exact)) if rows == 1 else ""
        ours = {"transformer 6 x 384": charlm(exact, rows, 200), "the same, int8": charlm(rounded, rows, 200)}
        for name, peer in peers.items():
            speed = peer(rows, cached, 200) if peer else "not installed"
            for label, own in ours.items():
                row = {"what": label, "rows": rows, "charlm": own, "peer": speed, "limit": limit}
                yield row | {"name": name + ("" if cached else ", no cache")}


def on_gpu() -> Iterator[Row]:
    for rows in (1, 256):
        model = build(**TRANSFORMER).to("cuda", torch.bfloat16)
        yield {"what": "transformer 6 x 384, bf16", "rows": rows, "charlm": charlm(model, rows, 4000)}


def with_ratio(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        both = isinstance(row.get("peer"), float)
        yield row | ({"charlm / peer": row["charlm"] / row["peer"]} if both else {})


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = options.parse_args(argv)
    rows = with_ratio(on_gpu() if args.device == "cuda" else on_cpu())
    columns = ["what", "rows", "charlm", "peer", "name", "charlm / peer", "limit"]
    show(rows, columns, args.json, title=machine(args.device) + "; tokens per second")
