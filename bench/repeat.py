"""The copy task of Kitaev, Kaiser & Levskaya 2020, arXiv:2001.04451, section 5: is what hashing leaves out missed?

    python -m bench repeat [--seconds 90] [--letters 31] [--json FILE]

A line is 0w0w, as `charlm corpus make repeat` writes it, but with words of one length, as in the paper, and new ones in
every step. A model of one layer is trained on the second halves alone, as in the authors' code, and scored on lines
that it never saw: the share of second halves without an error, with more and with fewer rounds of hashing than it was
trained with. Each letter is guessed from the right ones before it: where all guesses are right, writing greedily makes
no error. The last rows are controls that look at everything: a reformer whose chunk is the window, and a transformer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_lowercase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench._table import Row, machine, parser, show
from charlm.archs.reformer import Reformer
from charlm.config import DataSpec, Lengths
from charlm.plan import Plan

LETTERS = len(ascii_lowercase)
ZERO = LETTERS  # the id of the separator
SIZES = {"layers": 1, "hidden_size": 64, "heads": 4, "positions": "learned"}
HASHED = SIZES | {"arch": "reformer", "chunk": 4}
BATCH, RATE = 32, 3e-3
ROUNDS = 1, 2, 4, 8  # of evaluation
LINES = 1024  # held out


def lines(count: int, letters: int, rng: torch.Generator) -> Tensor:
    """(count, 2 letters + 2) the ids of as many lines 0w0w."""
    words = torch.randint(LETTERS, (count, letters), generator=rng)
    zeros = torch.full((count, 1), ZERO)
    return torch.cat([zeros, words, zeros, words], 1)


def copied(model: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A model's logits (B, N, V) for the second halves, and these (B, N)."""
    half = rows.size(1) // 2
    return model(rows[:, :-1]).logits[:, half:], rows[:, half + 1 :]


def train(model: Any, letters: int, seconds: float) -> int:
    """Train for so long; returns the number of steps."""
    rng, steps = torch.Generator().manual_seed(0), 0
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.98))
    began = time.perf_counter()
    while (spent := (time.perf_counter() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, 20 * spent, 2 * (1 - spent))
        logits, words = copied(model, lines(BATCH, letters, rng))
        loss = F.cross_entropy(logits.flatten(0, 1), words.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps


@torch.no_grad()
def score(model: Any, letters: int) -> tuple[float, float]:
    """The shares of second halves without an error, and of letters, that are right."""
    rng = torch.Generator().manual_seed(1)
    right = []
    for _ in range(LINES // BATCH):
        logits, words = copied(model, lines(BATCH, letters, rng))
        right.append(logits.argmax(-1) == words)
    whole = torch.cat(right)
    return float(whole.all(1).float().mean()), float(whole.float().mean())


def rows(letters: int, seconds: float) -> Iterator[Row]:
    spec = DataSpec(LETTERS + 1, Lengths.of_text(2 * letters + 2))
    models: dict[str, dict[str, Any]] = {f"reformer, --rounds {n}": HASHED | {"rounds": n} for n in (1, 2, 4)}
    models["reformer, chunk = window"] = HASHED | {"rounds": 1, "chunk": spec.lengths.window}
    models["transformer"] = SIZES | {"arch": "transformer", "ngram": 1}
    for name, settings in models.items():
        torch.manual_seed(0)
        plan = Plan.of(settings)
        model: Any = plan.build(spec).train()
        row: Row = {"trained": name, "steps": train(model, letters, seconds)}
        exact, right = score(model.eval(), letters)
        yield row | {"exact": f"{exact:.1%}", "letters": f"{right:.2%}"} | by_rounds(plan, model, letters)


def by_rounds(plan: Plan, model: Any, letters: int) -> Row:
    """The share of second halves without an error that a reformer has with other rounds than it was trained with."""
    row: Row = {}
    for rounds in ROUNDS if isinstance(model, Reformer) else ():
        other = replace(plan, model=replace(plan.model, rounds=rounds)).build(model.spec).eval()  # type: ignore[type-var]
        other.load_state_dict(model.state_dict())
        row[f"exact at {rounds}"] = f"{score(other, letters)[0]:.1%}"
    return row


def main(argv: Sequence[str]) -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=90, help="of training per model")
    options.add_argument("--letters", type=int, default=31, help="letters of a word")
    args = options.parse_args(argv)
    columns = ["trained", "steps", "letters", "exact", *(f"exact at {rounds}" for rounds in ROUNDS)]
    show(rows(args.letters, args.seconds), columns, args.json, title=machine())
