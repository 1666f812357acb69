"""What the processes of one training do together beside learning: each function is called in all of them.

The first process calls it where it wants to, which announces it; the others are in `follow`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor

from charlm.model import State, map_state
from charlm.training import sharding
from charlm.training.loop import Trainer
from charlm.training.optim import load_optimizer

SHARE, CARRIED, COMPILE, VALUES, WHOLE, END = map(float, range(-1, -7, -1))  # announced; or the rate of a step


@torch.no_grad()
def begin(trainer: Trainer) -> None:
    """Before the first step: give the first process's weights to all, and spread them if that is asked for."""
    trainer.world.broadcast(chain(trainer.model.parameters(), trainer.average.parameters() if trainer.average else ()))
    trainer.spread()


def follow(trainer: Trainer) -> None:
    """In all processes but the first: begin, and do what that one announces, until it ends."""
    begin(trainer)
    deeds = {SHARE: share, CARRIED: all_carried, COMPILE: translate, VALUES: all_values, WHOLE: gather}
    while (announced := trainer.world.broadcast_number(0.0)) != END:
        deeds.get(announced, lambda _: trainer.learn(announced))(trainer)


def end(trainer: Trainer) -> None:
    """In the first process: let the others end."""
    trainer.world.announce(END)


def translate(trainer: Trainer) -> None:
    """Let torch.compile do its work before the first step, whose clock runs for all."""
    trainer.world.announce(COMPILE)
    trainer.compile()
    trainer.world.all_reduce([torch.zeros(1)])  # which waits for all


def all_carried(trainer: Trainer) -> State:
    """What is carried in all rows."""
    trainer.world.announce(CARRIED)
    return map_state(lambda t: trainer.world.all_rows(t, trainer.batches.batch_size), trainer.position.carried)


def values(trainer: Trainer) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Weights, their average, and optimizer states, by their names in a checkpoint; with the weight that each is of."""
    for name, module in (("model", trainer.model), ("average", trainer.average)):
        if module is not None:
            yield from ((f"{name}/{key}", p, p) for key, p in module.named_parameters())
    for number, optimizer in enumerate(trainer.optimizers):
        for which, p in enumerate(sharding.numbered(optimizer)):
            known = optimizer.state.get(p, {}).items()
            yield from ((f"optimizer/{number}/{which}/{key}", t, p) for key, t in known)


def all_values(trainer: Trainer) -> dict[str, Tensor]:
    """`values`, whole, in the first process: on the host, where they were spread."""
    trainer.world.announce(VALUES)
    kept = {}
    for name, t, p in values(trainer):
        all_of_it = sharding.whole(t, p)
        if not trainer.world.rank:
            kept[name] = all_of_it.cpu() if sharding.is_spread(t) else all_of_it
    return kept


@torch.no_grad()
def gather(trainer: Trainer) -> None:
    """Make the first process's `Trainer.whole` what the weights are now."""
    if trainer.whole in (trainer.model, trainer.average) and not trainer.world.rank:
        return
    trainer.world.announce(WHOLE)
    copies = trainer.whole.parameters()
    for p, copied in zip((trainer.average or trainer.model).parameters(), copies, strict=True):
        all_of_it = sharding.whole(p, p)
        if not trainer.world.rank:
            copied.copy_(all_of_it)


@torch.no_grad()
def share(trainer: Trainer, given: Mapping[str, Tensor] | None = None, carried: State | None = None) -> None:
    """Set weights, average and optimizer states to those `given` by name in the first process, as `values` names them,
    and what is carried to `carried`, of all rows. Position and skipped steps become that process's too."""
    world, position = trainer.world, trainer.position
    world.announce(SHARE)
    outline = {name: (t.shape, t.dtype) for name, t in (given or {}).items()}
    own = position.step, position.tokens, int(trainer.skipped), carried, outline
    position.step, position.tokens, skipped, carried, outline = world.broadcast_object(own)
    trainer.skipped.fill_(skipped)
    weights = {name: p for name, p, _ in values(trainer) if not name.startswith("optimizer/")}
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in trainer.optimizers]
    for name, (shape, dtype) in outline.items():
        t = received(trainer, None if given is None else given[name], shape, dtype)
        if name in weights:
            weights[name].copy_(sharding.part(t, weights[name]))
        elif name.startswith("optimizer/"):
            _, number, which, key = name.split("/")
            p = sharding.numbered(trainer.optimizers[int(number)])[int(which)]
            states[int(number)].setdefault(int(which), {})[key] = sharding.part(t, p)
    for optimizer, state in zip(trainer.optimizers, states, strict=True):
        load_optimizer(optimizer, state)
    if carried is not None:
        map_state(lambda own, rows: own.copy_(rows[world.rows]), position.carried, carried)


def received(trainer: Trainer, t: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The first process's `t`, in all of them, and where there are several on the device."""
    if trainer.world.size == 1:
        assert t is not None
        return t
    sent = torch.empty(shape, dtype=dtype, device=trainer.device) if t is None else t.to(trainer.device)
    trainer.world.broadcast([sent])
    return sent
