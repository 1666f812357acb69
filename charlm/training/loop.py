"""The training loop: knows no architecture, no screen and no file.

Teacher forcing (Williams & Zipser 1989): the model is fed the true text and scored on its guess for each next token.
Scheduled sampling (Bengio et al. 2015, arXiv:1506.03099, section 2.4) feeds it its own guess now and then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from charlm.config import TrainSettings
from charlm.device import autocast
from charlm.model import PAD, LanguageModel, Output, State, leaves, map_state
from charlm.objectives import OBJECTIVES, Batch, summed_nats
from charlm.text.buckets import Buckets
from charlm.text.windows import Windows
from charlm.timer import Clock
from charlm.training.optim import apply, rate, set_rate, update_average

ANEW = 1 / 64  # of the rows forget what was before, in each step: so a blank page is familiar, as it is in writing


class Step(NamedTuple):
    number: int  # optimizer steps so far, this one included
    nats: Tensor  # () mean loss per scored token, as smoothed; reading it waits for the device
    tokens: int  # of the text that was shown, each once; of pairs, of the targets
    lr: float
    progress: float  # share of the budget spent, in [0, 1]
    seconds: float  # of training so far


@dataclass
class Position:
    """Where a training stands: with weights and optimizer states, all that a checkpoint needs."""

    step: int = 0
    tokens: int = 0
    clock: Clock = field(default_factory=Clock)
    carried: State = None
    lr_scale: float = 1.0  # halved whenever the numbers exploded


class Trainer:
    """One training: model, data, optimizers and position. Iterate over it; it stops when the budget is spent.

    Everything random in step n is drawn after seeding with (seed, n), so that a resumed training needs no generator's
    state and nothing that happens between two steps can change the next.

    A step whose loss or gradient is not finite changes no weight. That is decided where the numbers are, and nothing
    waits for it; `skipped` counts such steps in a row.
    """

    def __init__(
        self,
        model: LanguageModel,
        batches: Windows | Buckets,
        optimizers: list[Optimizer],
        settings: TrainSettings,
        *,
        average: LanguageModel | None = None,
        objective: str | None = None,
    ) -> None:
        """`objective` is by default the first of the model's own."""
        self.model, self.batches, self.optimizers, self.settings = model, batches, optimizers, settings
        self.average = average
        self.position = Position()
        self.device = next(model.parameters()).device
        self.skipped = torch.zeros((), device=self.device)
        self.objective = OBJECTIVES[objective or model.objectives[0]]
        self.forward = torch.compile(model) if settings.compile == "on" else model

    def compile(self) -> None:
        """Let torch.compile do its work, for which it waits for a batch, before the clock is started."""
        batch, *_ = self.next_batch(0)
        self.model.train()
        with self.autocast():
            logits = self.guess(batch, None).logits
        torch.autograd.backward(summed_nats(logits, self.there(batch.targets)))
        self.model.zero_grad()

    def pause(self) -> None:
        """Stop the clock until the next step, when the device has done all that it was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.position.clock.stop()

    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        s, here = self.settings, self.position
        if s.steps is not None:
            spent = here.step / s.steps
        elif s.epochs is not None:
            spent = here.tokens / (s.epochs * self.batches.epoch_tokens)
        else:
            assert s.minutes is not None, "a plan always has a budget"
            spent = here.clock.seconds / (60 * s.minutes)
        return min(spent, 1.0)

    def __iter__(self) -> Iterator[Step]:
        while (progress := self.progress()) < 1:
            yield self.step(progress)

    def step(self, progress: float) -> Step:
        """One optimizer update."""
        s, here = self.settings, self.position
        here.clock.start()
        torch.manual_seed((s.seed * 1_000_003 + here.step) % 2**63)
        self.model.train()
        lr = s.lr * here.lr_scale * rate(s.schedule, s.warmup, progress)
        set_rate(self.optimizers, lr)
        batches = [self.next_batch(here.step * s.accumulate + i) for i in range(s.accumulate)]
        scored = sum(int((batch.targets != PAD).sum()) for batch, *_ in batches)
        shown = sum(tokens for *_, tokens in batches)
        total = torch.zeros((), device=self.device)
        for batch, fresh, _ in batches:
            targets = self.there(batch.targets)  # before the model: so nothing waits for it
            with self.autocast():
                out = self.guess(batch, None if fresh else self.forgetful(here.carried))
            here.carried = self.model.carry(out.state)
            nats = summed_nats(out.logits, targets, s.label_smoothing) / scored
            torch.autograd.backward(nats)
            total += nats.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), s.clip or math.inf)
        finite = norm.isfinite() & total.isfinite()
        self.skipped = torch.where(finite, 0, self.skipped + 1)
        here.carried = map_state(lambda t: torch.where(finite, t, 0), here.carried)
        for optimizer in self.optimizers:
            apply(optimizer, finite)
        here.step += 1
        here.tokens += shown
        if self.average is not None:
            update_average(self.average, self.model, s.ema, here.step)
        return Step(here.step, total, shown, lr, self.progress(), here.clock.seconds)

    def next_batch(self, number: int) -> tuple[Batch, bool, int]:
        """The batch, whether it starts anew, and how many tokens of the text, or of the targets, it shows."""
        shown, fresh = self.batches.batch(number)
        arrays = shown if isinstance(shown, tuple) else (shown,)
        tokens = int((arrays[-1][:, 1:] != PAD).sum())  # each is one that is to follow
        return self.objective(*map(torch.from_numpy, arrays)), fresh, tokens

    def forgetful(self, state: State) -> State:
        """The same state, some of its rows as they are before a text: zero."""
        rows = [len(t) for t in leaves(state)][:1]
        kept = self.there(torch.rand(rows) >= ANEW)  # (B,)
        return map_state(lambda t: t * kept.view(-1, *[1] * (t.dim() - 1)), state)

    def there(self, t: Tensor) -> Tensor:
        """The same on the device; pinned memory is what a GPU can fetch while this thread goes on."""
        return (t.pin_memory() if self.device.type == "cuda" else t).to(self.device, non_blocking=True)

    def autocast(self) -> AbstractContextManager[None]:
        return autocast(self.device, self.settings.precision)

    def guess(self, batch: Batch, state: State) -> Output:
        """Logits for a batch: from the true text at once, or token by token where the model hears itself."""
        tokens = self.there(batch.tokens)
        source = None if batch.source is None else self.there(batch.source)
        if self.settings.teacher_forcing == 1:
            out: Output = self.forward(tokens, state, source)
            return out
        return listen(self.model, tokens, state, source, self.settings.teacher_forcing)


def listen(model: LanguageModel, tokens: Tensor, state: State, source: Tensor | None, truth: float) -> Output:
    """Scheduled sampling: each token (B, T) after the first is the true one with probability `truth`, else a guess."""
    if source is not None:
        state = model.read(source)
    token, logits = tokens[:, :1], []
    for t in range(tokens.size(1)):
        out = model(token, state)
        logits.append(out.logits)
        state = out.state
        if t + 1 < tokens.size(1):
            share = out.logits[:, -1].detach().float().softmax(-1)  # (B, V)
            # Drawn so, and not by `multinomial`: to that, a share that is no number is the end of a GPU's process.
            guess = (share / torch.empty_like(share).exponential_()).argmax(-1, keepdim=True)  # (B, 1)
            true = torch.rand_like(guess, dtype=torch.float) < truth
            token = torch.where(true, tokens[:, t + 1 : t + 2], guess)
    return Output(torch.cat(logits, 1), state)
