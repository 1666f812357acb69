"""The training loop: knows no architecture, no objective, no screen and no file."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from charlm import device, objectives
from charlm.config import DataSpec, TrainSettings
from charlm.errors import SettingsError
from charlm.model import PAD, Network, State, detach, leaves, map_state, parameter_count
from charlm.objectives._base import Batch, Loss, Objective
from charlm.plan import Plan
from charlm.timer import Clock
from charlm.training import sharding
from charlm.training.optim import (
    average_weight,
    build_optimizers,
    rate,
    set_rate,
    step_if_finite,
    thawed,
    update_average,
)
from charlm.training.recorder import Feed, Recorder, padded
from charlm.training.world import World, reported

RESET_SHARE = 1 / 64  # of the rows begin anew in each step, so that a blank page is familiar, as it is in writing


class Batches(Protocol):
    """The training part of some data, cut into batches."""

    batch_size: int  # rows of the largest
    tokens: int  # of the largest batch
    epoch_tokens: int

    def batch(self, number: int) -> tuple[tuple[NDArray[Any], ...], bool]:
        """Batch number 0, 1 …: rows of ids, padded on the right with PAD, the last array holding what is to be said
        after its first column; and whether they begin anew, or go on from the rows of the batch before."""


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
    carried: State = ()
    lr_scale: float = 1.0  # halved whenever the numbers exploded


class Trainer:
    """One training: model, data, optimizers and position. Iterate over it; it stops when the budget is spent.

    A step has two halves. `feed` prepares it on the host: the batch, the learning rate and the weight of the average,
    in tensors that keep their addresses, for each shape. `update` computes on the device alone, which only optimizers
    without a fused kernel (MPS) wait for, and on CUDA it is recorded (`recorder.py`).

    Everything random in step n is drawn after seeding with (seed, n), so that a resumed training needs no generator's
    state and nothing that happens between two steps can change the next.

    Of several processes (`World`) each computes some rows of the same batches, and all change their weights alike, by
    the sum of all gradients (`training/together.py`).

    A step whose loss or gradient is not finite changes no weight, no average and no optimizer state, and what is
    carried begins anew. That is decided where the numbers are, and nothing waits for it; `skipped` counts such steps in
    a row.
    """

    def __init__(
        self,
        model: Network,
        batches: Batches,
        optimizers: list[Optimizer],
        settings: TrainSettings,
        *,
        average: Network | None = None,
        objective: Objective | None = None,
        world: World | None = None,
    ) -> None:
        """`objective` is by default the model's own."""
        self.model, self.batches, self.optimizers, self.settings = model, batches, optimizers, settings
        self.average = average
        self.world = (world or World())._replace(split=settings.parallel != "tensor")
        self.objective = objective or objectives.load(model.objective)()
        self.device = next(model.parameters()).device
        self.position = Position(carried=map_state(torch.clone, detach(self.blank())))
        self.skipped = torch.zeros((), device=self.device)
        self.average_weight = torch.zeros((), device=self.device)  # of the newest weights in the average
        self.learner = sharding.Learner(torch.compile(model) if settings.compile == "on" else model, self.objective)
        self.whole = average or model  # what is scored, saved and sampled from, in the first process
        if sharding.spreads(settings.parallel, self.world) and not self.world.rank:
            self.whole = copy.deepcopy(self.whole).requires_grad_(False)
        self.recorder = Recorder(model, self.update)
        if self.world.size > 1:  # what they exchange is not recorded
            self.recorder.on = self.recorder.few_shapes = False
        self.where = ""  # device, precision and why, for people

    @classmethod
    def from_plan(cls, plan: Plan, batches: Batches, spec: DataSpec, world: World | None = None) -> Trainer:
        """A training from its beginning, with what was left automatic decided in its `settings`.

        Raises `SettingsError` for what the device cannot compute or hold.
        """
        world = (world or World())._replace(split=plan.train.parallel != "tensor")
        sharding.refuse(plan.train.parallel, plan.outline(spec), world)
        if world.split and batches.batch_size < world.size and leaves(plan.objective.start(plan.outline(spec), 1)):
            raise SettingsError(
                f"{world.size} processes share the {batches.batch_size} rows of a batch; "
                "give a larger --batch-size, or a longer text"
            )
        place, objective = device.choose_device(plan.train.device, several=world.size > 1), plan.objective
        size, share = parameter_count(plan.outline(spec)), sharding.held(plan.train.parallel, world)
        device.refuse_what_cannot_fit(size, batches.tokens * spec.vocab_size, place, plan.batch_flags, share)
        torch.manual_seed(plan.train.seed)
        model = plan.build(spec).to(place)

        def attempt() -> Tensor:
            """The loss of a few tokens."""
            rows = tuple(torch.from_numpy(array[:1, :3]) for array in batches.batch(0)[0])
            batch = map_state(lambda t: t.to(place), objective.batch(rows, spec, torch.Generator()))
            return objective.loss(model, batch, objective.start(model, 1)).nats

        spread = sharding.spreads(plan.train.parallel, world)
        settings, where = device.settle(plan.train, model, attempt, by_token=objective.by_token, spread=spread)
        average = copy.deepcopy(model).requires_grad_(False) if settings.ema else None
        optimizers = build_optimizers(model, settings)
        trainer = cls(model, batches, optimizers, settings, average=average, objective=objective, world=world)
        where = f"{where}, a step is one CUDA graph" if trainer.recorder.on else where
        several = f"{world.size} processes, each {sharding.SHARES[plan.train.parallel]}on {where}"
        trainer.where = several if world.size > 1 else where
        return trainer

    def blank(self) -> State:
        """The state before the first batch, of this process's rows."""
        state = self.objective.start(self.model, len(range(self.batches.batch_size)[self.world.rows]))
        return map_state(lambda t: sharding.whole(t, t), state)

    def spread(self) -> None:
        """Leave each process its part of the weights, where the settings say so; before the first step."""
        if sharding.spreads(self.settings.parallel, self.world):
            sharding.spread(self.settings.parallel, self.learner, self.model, self.average, self.device)
            self.optimizers = build_optimizers(self.model, self.settings)

    def compile(self) -> None:
        """Let torch.compile do its work, for which it waits for a batch, before the clock is started."""
        torch.manual_seed(self.settings.seed)
        self.model.train()
        for batch, keep in self.feed(0.0, torch.Generator())[0].batches:
            torch.autograd.backward(self.loss(batch, keep).minimised)
        self.model.zero_grad()

    def pause(self) -> None:
        """Stop the clock until the next step, when the device has done all that it was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.position.clock.stop()

    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        s, position = self.settings, self.position
        if s.steps is not None:
            spent = position.step / s.steps
        elif s.epochs is not None:
            spent = position.tokens / (s.epochs * self.batches.epoch_tokens)
        else:
            assert s.minutes is not None, "a plan always has a budget"
            spent = position.clock.seconds / (60 * s.minutes)
        return min(spent, 1.0)

    def __iter__(self) -> Iterator[Step]:
        while (progress := self.progress()) < 1:
            yield self.step(progress)

    def step(self, progress: float) -> Step:
        """One optimizer update, by all processes."""
        s, position = self.settings, self.position
        position.clock.start()
        lr = s.lr * position.lr_scale * rate(s.schedule, s.warmup, progress)
        nats, tokens = self.learn(lr)
        return Step(position.step, nats, tokens, lr, self.progress(), position.clock.seconds)

    def learn(self, lr: float) -> tuple[Tensor, int]:
        """The update, called in all processes: its mean loss () and how many tokens were shown."""
        self.world.announce(lr)
        seed = self.settings.seed * 1_000_003 + self.position.step
        device.seed_generators((seed + self.world.share * 2**40) % 2**63, self.device)
        self.model.train()
        feed, tokens = self.feed(lr, torch.Generator().manual_seed(seed % 2**63))
        with reported(computing=True):
            nats = self.recorder(feed)
        self.position.step += 1
        self.position.tokens += tokens
        return nats, tokens

    def feed(self, lr: float, draws: torch.Generator) -> tuple[Feed, int]:
        """What the next update reads, and how many tokens of the text, or of the targets, all processes are shown.

        Every process makes the whole batch, with the same `draws`, and feeds its own rows of it.
        """
        epochs = self.position.tokens / self.batches.epoch_tokens
        set_rate(self.optimizers, lr, thawed(self.settings.unfreeze, epochs))
        self.average_weight.fill_(average_weight(self.settings.ema, self.position.step + 1))
        batches, shown, scored = [], 0, 0
        for number in range(self.settings.accumulate):
            arrays, fresh = self.batches.batch(self.position.step * self.settings.accumulate + number)
            shown += int((arrays[-1][:, 1:] != PAD).sum())  # each is one that is to follow
            rows = tuple(torch.from_numpy(array) for array in arrays)
            batch = self.objective.batch(rows, self.model.spec, draws)
            scored += int((batch.targets != PAD).sum())
            keep = (torch.rand(len(batch.tokens), generator=draws) >= RESET_SHARE) & (not fresh)
            own = self.own(batch), keep[self.world.rows]
            batches.append(padded(*own, self.model.spec.lengths) if self.recorder.few_shapes else own)
        fed = Feed(tuple(batches), torch.tensor(float(max(scored, 1))))  # a batch may hold nothing to be scored
        return self.recorder.place(fed), shown

    def own(self, batch: Batch) -> Batch:
        """This process's rows; where there are fewer rows than processes perhaps one that is not scored."""
        if self.world.share >= len(batch.tokens):
            unscored = batch._replace(targets=torch.full_like(batch.targets, PAD))
            return Batch(*map_state(lambda t: t[:1], unscored))
        return Batch(*map_state(lambda t: t[self.world.rows], batch))

    def update(self, feed: Feed) -> Tensor:
        """Change the weights; returns the mean loss per scored target, ()."""
        total = torch.zeros((), device=self.device)
        for batch, keep in feed.batches:
            loss = self.loss(batch, keep)
            torch.autograd.backward(loss.minimised / feed.scored)
            total += loss.nats.detach() / feed.scored
            map_state(Tensor.copy_, self.position.carried, loss.state)
        sharding.add_up(self.world, total, self.model.parameters())
        norm = sharding.clip(self.model.parameters(), self.settings.clip or math.inf)
        finite = norm.isfinite() & total.isfinite()
        self.skipped.add_(1).masked_fill_(finite, 0)
        map_state(lambda t, blank: t.copy_(torch.where(finite, t, blank)), self.position.carried, detach(self.blank()))
        for optimizer in self.optimizers:
            step_if_finite(optimizer, finite)
        if self.average is not None:
            update_average(self.average, self.model, self.average_weight * finite)
        return total

    def loss(self, batch: Batch, keep: Tensor) -> Loss:
        """The objective's, where the rows that are not kept go on from a blank page."""

        def mixed(carried: Tensor, blank: Tensor) -> Tensor:
            return torch.where(keep.view(-1, *[1] * (carried.dim() - 1)), carried, blank)

        state = map_state(mixed, self.position.carried, self.blank())
        with device.autocast(self.device, self.settings.precision):
            loss: Loss = self.learner(batch, state)
            return loss
