"""What the processes of one training do together beside learning: each function is called in all of them.

The first process calls it where it wants to, which announces it; the others are in `follow`.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor
from torch.optim import Optimizer

from charlm.model import State, map_state
from charlm.training.loop import Trainer
from charlm.training.optim import load_optimizer

SHARE, CARRIED, COMPILE, END = -1.0, -2.0, -3.0, -4.0  # what is announced; or the rate of a step, 0 or more


def follow(trainer: Trainer) -> None:
    """In all processes but the first: do what that one announces, until it ends."""
    while (announced := trainer.world.broadcast_number(0.0)) != END:
        if announced == SHARE:
            share(trainer)
        elif announced == CARRIED:
            all_carried(trainer)
        elif announced == COMPILE:
            translate(trainer)
        else:
            trainer.learn(announced)


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


@torch.no_grad()
def share(trainer: Trainer, carried: State | None = None) -> None:
    """Give the first process's weights, optimizer states and position to all, and what is carried in all rows, if it is
    given there."""
    world, position, optimizers = trainer.world, trainer.position, trainer.optimizers
    world.announce(SHARE)
    position.step, position.tokens, carried = world.broadcast_object((position.step, position.tokens, carried))
    world.broadcast(chain(trainer.model.parameters(), trainer.average.parameters() if trainer.average else ()))
    for optimizer in optimizers if world.size > 1 else ():
        share_states(trainer, optimizer)
    if carried is not None:
        map_state(lambda own, rows: own.copy_(rows[world.rows]), position.carried, carried)


def share_states(trainer: Trainer, optimizer: Optimizer) -> None:
    """Give what the first process's optimizer knows of each parameter to all."""
    states = optimizer.state_dict()["state"]
    shapes = {p: {name: (t.shape, t.dtype, t.device.type) for name, t in state.items()} for p, state in states.items()}
    shapes = trainer.world.broadcast_object(shapes)
    if trainer.world.rank:
        states = {p: {name: empty(*like) for name, like in state.items()} for p, state in shapes.items()}
    trainer.world.broadcast(t for state in states.values() for t in state.values())
    if trainer.world.rank:
        load_optimizer(optimizer, states)


def empty(shape: torch.Size, dtype: torch.dtype, device: str) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)
